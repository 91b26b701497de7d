// How is a page opened, and what must never happen on one?

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const QUIET = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** A browser with an empty profile; `close` takes it away. */
export async function openBrowser(options = {}) {
  const profile = await mkdtemp(join(tmpdir(), "perennial-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: QUIET,
    viewport: { width: 1280, height: 850 },
    ...options,
  });
  context.setDefaultTimeout(60_000);
  const close = async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { context, close };
}

/**
 * A page at `url`, and in `wrong` all that went wrong on it: errors on the console, what was thrown, what
 * the policy stopped, and requests to other hosts. `expected` says of a text whether it was to come.
 */
export async function openPage(context, url, expected = () => false) {
  const page = await context.newPage();
  const wrong = [];
  const tell = (text) => expected(text) || wrong.push(text);
  page.on("pageerror", (error) => tell(`thrown: ${error.stack ?? error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") tell(`${message.text()} ${message.location().url}`);
  });
  page.on("request", (request) => {
    if (new URL(request.url()).host !== new URL(url).host) tell(`request to ${request.url()}`);
  });
  await page.goto(url);
  return { page, wrong };
}
