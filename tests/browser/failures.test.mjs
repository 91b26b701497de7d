// Does the console say what goes wrong: answers that fail, a server that is away or in trouble, a token that is
// taken back?
//
// The tests share one program and go in order. It begins without documents, so that no question has an answer.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openBrowser, openPage } from "./browser.mjs";
import { Program } from "./program.mjs";

const REASON = "there are no documents to answer from";

let program;
let browser;
let page;
let wrong;

before(async () => {
  program = new Program(join(fileURLToPath(new URL(".", import.meta.url)), "app.sql"));
  await program.open();
  await program.feed("questions", { key: "open", text: "When does the town library open?" });
  await program.feed("questions", { key: "card", text: "What does a reader's card cost?" });
  browser = await openBrowser();
  ({ page, wrong } = await openPage(browser.context, `${program.url}/#/views`, wasToCome));
});

after(async () => {
  await browser?.close();
  await program?.close();
});

// What browsers write of a request that is refused or cut.
function wasToCome(text) {
  return /status of [45]\d\d/.test(text) || /ERR_/.test(text);
}

async function show(path) {
  await page.goto(`${program.url}/#/${path}`);
  await page.locator("main h1").first().waitFor();
}

const answersRow = () => page.locator("tbody tr").filter({ has: page.getByRole("rowheader", { name: "answers", exact: true }) });

test("a view all of whose answers failed is seen to have failed, in the list", async () => {
  await show("views");
  await answersRow().getByText("✕ all 2 answers failed").waitFor();
  assert.equal(await answersRow().locator(".status.good").count(), 0, "it does not look well");
  const summary = page.locator("main .problem", { hasText: "2 answers failed" });
  await summary.waitFor();
  const badge = page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Views 2 failed answers" });
  assert.match(await badge.innerText(), /✕ 2/);
  await summary.getByRole("link", { name: "answers" }).click();
  await page.getByRole("heading", { level: 1, name: "answers" }).waitFor();
  assert.equal(await page.getByLabel("Which answers").inputValue(), "failed");
});

test("of a view whose answers failed, the page of each says so, and why", async () => {
  await show("views");
  await show("views/answers");
  const failures = page.getByRole("region", { name: "Failed answers" });
  await failures.getByText("✕ all 2 answers failed").waitFor();
  await failures.getByText(REASON).waitFor();
  const card = page.locator('[data-key="open"]');
  assert.match(await card.innerText(), /✕ No answer: there are no documents/);
  assert.doesNotMatch(await card.innerText(), /written anew|exact|provisional/);
  await failures.getByRole("button", { name: "show them alone" }).click();
  assert.equal(await page.locator(".card").count(), 2);
  await page.locator("[data-filter]").fill("no documents");
  assert.equal(await page.locator(".card").count(), 2, "reasons are found, too");

  await show("views/answers/attention");
  await failures.getByText(REASON).waitFor();
  await page.getByRole("heading", { name: "No answer leans on anything yet" }).waitFor();
  await show("views/answers/plan");
  await page.locator("svg").getByText(/\d+ calls?, ✕ \d+ failed/).waitFor();
  await show("operations");
  await page.locator(".tiles div", { hasText: "Failed answers" }).getByText("✕ 2").waitFor();
  await show("try");
  await failures.getByText(REASON).waitFor();
});

test("what is answered is counted no more", async () => {
  await show("views/answers");
  await page.getByRole("region", { name: "Failed answers" }).waitFor();
  await program.feed("docs", { key: "hours", text: "The town library opens at nine in the morning.\n" });
  await page.getByRole("region", { name: "Failed answers" }).waitFor({ state: "detached" });
  await page.locator('[data-key="open"] .sentence').first().waitFor();
  await show("views");
  await answersRow().locator(".status.good").waitFor();
  assert.equal(await page.locator("main .problem").count(), 0);
  await page.getByRole("link", { name: "Views", exact: true }).waitFor();
});

test("a page that only asks now and then says that the server is away, tells it once, and tries at once", async () => {
  await show("views");
  await answersRow().waitFor();
  await page.route("**/v1/**", (route) => route.abort("connectionrefused"));
  const banner = page.locator(".banner", { hasText: "The connection is lost" });
  await banner.getByText(/Next try in \d+ s/).waitFor();
  await answersRow().waitFor();
  // Seconds that go by are told to nobody.
  assert.equal(await banner.evaluate((one) => one.closest("[role=status], [role=alert], [aria-live]")), null);
  await page.locator('[aria-live="polite"]', { hasText: "The connection is lost. the server does not answer" }).waitFor();
  await page.unroute("**/v1/**");
  await banner.getByRole("button", { name: "Try now" }).click();
  await page.locator(".banner.hidden").waitFor({ state: "attached" });
  await page.locator('[aria-live="polite"]', { hasText: "The connection is back." }).waitFor();
});

test("a server that says that it cannot is not said to be away", async () => {
  await show("views");
  await answersRow().waitFor();
  const body = JSON.stringify({ error: "the disk is full" });
  await page.route("**/v1/**", (route) => route.fulfill({ status: 503, contentType: "application/json", body }));
  const banner = page.locator(".banner", { hasText: "The server cannot answer" });
  await banner.getByText("the disk is full").waitFor();
  await page.locator(".health", { hasText: "in trouble" }).waitFor();
  await page.unroute("**/v1/**");
  await banner.getByRole("button", { name: "Try now" }).click();
  await page.locator(".health", { hasText: "ready" }).waitFor();
});

test("a token that may not look at the whole server sees that it is there", async () => {
  const body = JSON.stringify({ error: "this token may look at some views only" });
  await page.route("**/v1/status", (route) => route.fulfill({ status: 403, contentType: "application/json", body }));
  await page.reload();
  await page.locator(".health", { hasText: "connected" }).waitFor();
  await show("operations");
  await page.getByRole("alert").getByText("this token may look at some views only").waitFor();
  await page.unroute("**/v1/status");
});

test("a token that is taken back is asked for anew, and Esc does not lose the question", async () => {
  await show("views");
  await answersRow().waitFor();
  const body = JSON.stringify({ error: "a token is needed" });
  await page.route("**/v1/**", (route) => route.fulfill({ status: 401, contentType: "application/json", body }));
  const dialog = page.getByRole("dialog", { name: "A token, please" });
  await dialog.waitFor();
  // Chromium closes a dialog at the second without asking.
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await dialog.getByLabel("Token").waitFor();
  await page.unroute("**/v1/**");
  await dialog.getByLabel("Token").fill("0b1f6f4d8a3e47f3a1c5e7d9f2b4c6e8");
  await page.keyboard.press("Enter");
  await dialog.waitFor({ state: "detached" });
  await answersRow().waitFor();
});

test("an address that names nothing is a page that says so", async () => {
  for (const path of ["constructor", "%E0%A4%A", "views/%E0%A4%A"]) {
    await show(path);
    await page.getByRole("heading", { level: 1, name: /^There is no / }).waitFor();
  }
});

test("a record is deleted only by who means it", async () => {
  await show("try?stream=docs&document=hours");
  const form = page.locator("form.editor");
  await form.getByRole("button", { name: "Delete" }).click();
  await form.getByText("Delete it for good?").waitFor();
  await form.getByRole("button", { name: "Keep it" }).click();
  await form.getByRole("button", { name: "Delete" }).click();
  await form.getByRole("button", { name: "Yes, delete" }).click();
  await page.getByText("It holds no record yet").waitFor();
});

test("nothing else went wrong", () => {
  assert.deepEqual(wrong, []);
});
