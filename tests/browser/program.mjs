// How is the program started for a test, and fed?
//
// On a free port, in a folder of its own, with the small real model.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const READY_MS = 600_000;
const LONGEST_LOG = 20_000;

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A running program. `stop` ends it; `start` begins it anew, on the same port and state. */
export class Program {
  #child = null;
  #script;
  log = "";

  constructor(script) {
    this.#script = script;
  }

  async open() {
    this.folder = await mkdtemp(join(tmpdir(), "perennial-console-"));
    this.address = `127.0.0.1:${await freePort()}`;
    this.url = `http://${this.address}`;
    await this.start();
  }

  start() {
    return this.startWith([]);
  }

  /** The same with further options. */
  async startWith(options) {
    const args = ["serve", "--model", "smollm2-135m", "--listen", this.address, "--state", join(this.folder, "state")];
    this.#child = spawn(process.env.PERENNIAL, [...args, ...options, this.#script], { stdio: ["ignore", "pipe", "pipe"] });
    const keep = (text) => (this.log = (this.log + text).slice(-LONGEST_LOG));
    this.#child.stdout.on("data", keep);
    this.#child.stderr.on("data", keep);
    const giveUpAt = Date.now() + READY_MS;
    // The model may have to be fetched first.
    for (;;) {
      if (this.#child.exitCode !== null) throw new Error(`the program ended:\n${this.log}`);
      const ready = await fetch(`${this.url}/readyz`).catch(() => null);
      if (ready?.ok) return;
      if (Date.now() > giveUpAt) throw new Error(`the program is not ready:\n${this.log}`);
      await sleep(200);
    }
  }

  async stop() {
    const child = this.#child;
    if (child === null || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await Promise.race([ended, sleep(20_000)]);
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await ended;
  }

  async close() {
    await this.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  async ask(method, path, body, headers = {}) {
    const response = await fetch(this.url + path, { method, body, headers });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === "" ? null : JSON.parse(text);
  }

  /** Posts records, and waits until they are visible. */
  async feed(stream, ...records) {
    const lines = records.map((one) => (typeof one === "string" ? one : JSON.stringify(one)));
    return this.ask("POST", `/v1/streams/${stream}?wait=60`, `${lines.join("\n")}\n`);
  }
}
