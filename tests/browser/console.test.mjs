// The console as a person uses it: in a browser, against the program and the small real model.
//
// The tests share one program and go in order, as a visit does. None waits for a certain time: each
// waits for what must show.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openBrowser, openPage } from "./browser.mjs";
import { Program } from "./program.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const hours = (hour) => ({
  key: "hours",
  title: "Opening hours",
  text: `The town library opens at ${hour} in the morning.\n`,
});
const DOCUMENTS = [
  { key: "cards", title: "Cards", text: "A reader's card costs five crowns a year.\n" },
  hours("nine"),
  { key: "pets", title: "Pets", text: "Dogs are not allowed in the reading room.\n" },
];
const MARKUP = '<img src=x onerror="window.wasHit = true"><script>window.wasHit = true</script>';
const PAGES = [
  "views",
  "views/answers",
  "views/answers/attention",
  "views/answers/attention?of=open",
  "views/answers/timeline",
  "views/answers/plan",
  "views/long_docs",
  "views/long_docs/plan",
  "views/docs",
  "try",
  "sql",
  "quarantine",
  "operations",
  "nowhere",
];

let program;
let browser;
let page;
let wrong;

before(async () => {
  program = new Program(join(here, "app.sql"));
  await program.open();
  browser = await openBrowser();
  await program.feed("docs", ...DOCUMENTS);
  await program.feed("questions", { key: "open", text: "When does the town library open?" });
  await program.feed("questions", { key: "card", text: "What does a reader's card cost?" });
  ({ page, wrong } = await openPage(browser.context, `${program.url}/#/views/answers`, wasToCome));
});

after(async () => {
  await browser?.close();
  await program?.close();
});

// What browsers write by themselves of a statement that is refused, or a connection that is cut.
function wasToCome(text) {
  return /status of 4\d\d/.test(text) || /ERR_(CONNECTION|INCOMPLETE|EMPTY|NETWORK)/.test(text);
}

async function show(path) {
  await page.goto(`${program.url}/#/${path}`);
  await page.locator("main h1, main .empty h2").first().waitFor();
  // All that is waited for has come.
  await page.locator(".waiting").first().waitFor({ state: "detached" });
}

const card = (key) => page.locator(`[data-key="${key}"]`);

test("every page shows, and nothing goes wrong on it", async () => {
  for (const path of PAGES) {
    await show(path);
    assert.notEqual(await page.title(), "");
    const main = await page.locator("main").innerText();
    assert.ok(main.length > 10, `${path} shows nothing`);
    assert.ok(!main.includes("This page broke"), `${path}: ${main}`);
  }
  assert.deepEqual(wrong, []);
  await show("views");
  await page.locator("tbody tr", { hasText: "answers" }).getByText("fresh").waitFor();
});

test("a changed document shows in the answers at once, and says by how much work", async () => {
  await show("views/answers");
  await card("open").getByText("nine").waitFor();
  const stood = await card("card").locator(".answer").innerText();
  await program.feed("docs", hours("eleven"));
  await card("open").locator("ins", { hasText: "eleven" }).waitFor();
  await card("open").locator("del", { hasText: "nine" }).waitFor();
  assert.match(await card("open").locator(".rung").innerText(), /exchanged|rewritten|written|checked/);
  assert.match(await card("open").locator(".promise").innerText(), /exact|provisional/);
  assert.match(await card("open").locator(".cost").innerText(), /tokens/);
  assert.equal(await card("card").locator(".answer").innerText(), stood);
  // It is said aloud, too, but politely.
  const told = page.locator('[aria-live="polite"]', { hasText: "hours changed" });
  assert.match(await told.innerText(), /Epoch \d+[\s\S]*read \d+ of 2 questions/);
  await page.locator(".chip", { hasText: "open" }).click();
  await page.waitForFunction(() => document.activeElement.dataset.key === "open");

  await show("views/answers/timeline");
  const newest = page.locator("table.data tbody tr").first();
  assert.match(await newest.innerText(), /hours changed/);
  assert.ok((await page.locator(".chart canvas").count()) >= 3);
});

test("a sentence opens the passages that it leans on, and the map follows a change", async () => {
  await show("views/answers");
  await card("open").locator(".sentence").first().click();
  const panel = page.getByRole("complementary", { name: "What a sentence leans on" });
  await panel.locator(".passages li.named").first().waitFor();
  assert.match(await panel.locator(".passages li.named").first().innerText(), /hours[\s\S]*opens at eleven/);
  const cells = panel.locator('[role="gridcell"]');
  assert.ok((await cells.count()) >= 3);
  assert.match(await cells.first().getAttribute("aria-label"), /^strength \d|^none$/);
  await cells.first().focus();
  await page.keyboard.press("ArrowRight");
  assert.match(await panel.locator(".readout").innerText(), /“.*”.*: strength \d/);

  await program.feed("docs", hours("ten"));
  await panel.locator("blockquote", { hasText: "ten" }).waitFor();
  await panel.locator(".passage-text", { hasText: "opens at ten" }).first().waitFor();
  await page.keyboard.press("Escape");
  await panel.waitFor({ state: "detached" });
});

test("keys reach every page, the filter and the answers; and they can be switched off", async () => {
  await show("views");
  await page.reload();
  await page.locator("main h1").waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "To the content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  for (const [key, title] of [["s", "SQL"], ["q", "Quarantine"], ["o", "Operations"], ["t", "Try a change"], ["v", "Views"]]) {
    await page.keyboard.press("g");
    await page.keyboard.press(key);
    await page.getByRole("heading", { level: 1, name: title, exact: true }).waitFor();
    await page.evaluate(() => document.activeElement.blur());
  }
  await show("views/answers");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("/");
  await page.keyboard.type("card");
  await card("open").waitFor({ state: "detached" });
  assert.equal(await page.locator(".card").count(), 1);
  await page.locator("[data-filter]").fill("");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  assert.equal(await page.evaluate(() => document.activeElement.dataset.key), "open");
  await page.keyboard.press("Tab");
  const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(ring, "solid", "the focus is seen");
  await page.keyboard.press("Enter");
  await page.locator(".lineage").waitFor();
  await page.keyboard.press("Escape");

  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("?");
  const keys = page.getByRole("dialog", { name: "Keys" });
  await keys.getByLabel("Single keys do something").uncheck();
  await page.keyboard.press("Escape");
  await keys.waitFor({ state: "detached" });
  await page.keyboard.press("g");
  await page.keyboard.press("s");
  await show("views/answers");
  assert.match(page.url(), /answers/);
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("?");
  await keys.getByLabel("Single keys do something").check();
  await page.keyboard.press("Escape");
});

test("statements run, and the caret stands where one is wrong", async () => {
  await show("sql");
  const field = page.getByRole("textbox");
  await field.fill("SELECT key, text FROM answers;");
  await page.keyboard.press("Control+Enter");
  const result = page.getByRole("region", { name: "Result" });
  await result.getByRole("cell", { name: "open", exact: true }).waitFor();
  assert.equal(await result.locator("tbody tr").count(), 2);

  const sql = "SELECT key\n  FROM nothing;";
  await field.fill(sql);
  await page.keyboard.press("Control+Enter");
  const problem = page.getByRole("alert");
  await problem.getByText("Line 2").waitFor();
  const [line, caret] = (await problem.locator(".place").textContent()).split("\n");
  assert.equal(line, "  FROM nothing;");
  assert.equal(line.slice(caret.indexOf("^")), "nothing;");
  assert.equal(await field.evaluate((one) => one.selectionStart), sql.indexOf("nothing"));

  await page.getByText("History of this tab").click();
  await page.getByRole("button", { name: "SELECT key, text FROM answers;" }).click();
  assert.equal(await field.inputValue(), "SELECT key, text FROM answers;");
});

test("a refused record is mended and sent in again, another is discarded", async () => {
  const refused = program.feed("docs", '{"key": "fees", "txt": "Late books cost one crown a week."}', "{broken");
  await assert.rejects(refused, /nothing of 2 records was accepted/);
  await show("quarantine");
  const fees = page.getByRole("form").filter({ hasText: "key fees" });
  await fees.locator("textarea").fill("no record at all");
  await fees.getByRole("button", { name: "Send it in again" }).click();
  await fees.getByRole("alert").getByText("not one JSON object").waitFor();
  await fees.locator("textarea").fill(JSON.stringify({ key: "fees", title: "Fees", text: "Late books cost one crown a week." }));
  await fees.getByRole("button", { name: "Send it in again" }).click();
  await page.getByText(/Record \d+ is taken in/).waitFor();
  await fees.waitFor({ state: "detached" });
  await show("views/docs");
  await page.getByRole("cell", { name: "Late books cost one crown a week." }).waitFor();

  await show("quarantine");
  const broken = page.getByRole("form").first();
  await broken.getByRole("button", { name: "Discard" }).click();
  await broken.getByRole("button", { name: "Yes, discard" }).click();
  await page.getByText("Nothing is refused").waitFor();
});

test("an edit and a question in the browser move the answers beside them", async () => {
  await show("try");
  await page.getByLabel("Change").selectOption("docs");
  await page.locator(".documents button", { hasText: "cards" }).click();
  const text = page.getByLabel("Text", { exact: true });
  await page.waitForFunction(() => document.querySelector(".editor textarea")?.value.includes("five"));
  await text.fill("A reader's card costs seven crowns a year.\n");
  await page.keyboard.press("Control+Enter");
  await page.getByText(/Visible in epoch \d+/).waitFor();
  await card("card").locator("ins", { hasText: "seven" }).waitFor();

  await page.getByLabel("A question").fill("Are dogs allowed in the reading room?");
  await page.keyboard.press("Enter");
  const asked = page.locator(".card", { hasText: "Are dogs allowed in the reading room?" });
  await asked.locator(".answer").waitFor();

  // The record that stood before is a click away.
  await page.getByRole("button", { name: "Text as it was before" }).click();
  await page.getByRole("button", { name: "Save" }).click();
  await card("card").locator("ins", { hasText: "five" }).waitFor();
});

test("what documents say is text, never markup", async () => {
  await program.feed("docs", { key: "markup", title: MARKUP, text: `${MARKUP} Visitors are welcome.` });
  await program.feed("questions", { key: MARKUP, text: `${MARKUP} Who is welcome?` });
  for (const path of ["views/docs", "views/questions", "views/answers", "views/answers/attention", "views/long_docs", "try"]) {
    await show(path);
    await page.locator("main", { hasText: "onerror" }).waitFor();
  }
  await show("views/answers");
  await page.locator(".card", { hasText: "Who is welcome?" }).locator(".sentence").first().click();
  await page.locator(".lineage .passages").waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => window.wasHit), undefined);
  assert.equal(await page.locator("main img").count(), 0);
  await program.feed("questions", { delete: { key: MARKUP } });
  await program.feed("docs", { delete: { key: "markup" } });
  await page.locator(".card", { hasText: "Who is welcome?" }).waitFor({ state: "detached" });
});

test("ten thousand rows are shown a page at a time", async () => {
  await program.ask("POST", "/v1/sql", JSON.stringify({
    sql: "CREATE TABLE many (key TEXT, n BIGINT); CREATE VIEW even AS SELECT key, n FROM many WHERE n >= 0;",
  }));
  const rows = Array.from({ length: 10_000 }, (_, n) => ({ key: `row ${String(n).padStart(5, "0")}`, n }));
  await program.feed("many", ...rows);
  for (const path of ["views/even", "views/many"]) {
    await show(path);
    await page.getByText("1–100 of 10,000").waitFor();
    await page.getByRole("button", { name: "Last" }).click();
    await page.getByRole("cell", { name: "row 09999" }).waitFor();
    const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
    assert.ok(nodes < 3000, `${nodes} elements`);
  }
  await page.evaluate(() => document.activeElement.blur());
});

for (const [colorScheme, width] of [
  ["light", 1280],
  ["dark", 360],
]) {
  test(`no page breaks the rules of access or is too wide, in ${colorScheme} and ${width} pixels wide`, async () => {
    // What looks for faults is no part of the page, which its policy would keep out.
    const other = await openBrowser({ colorScheme, bypassCSP: true, viewport: { width, height: 800 } });
    try {
      const opened = await openPage(other.context, `${program.url}/#/views`, wasToCome);
      const ground = await opened.page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      const mean = ground.match(/\d+/g).map(Number).reduce((a, b) => a + b) / 3;
      assert.equal(mean > 128, colorScheme === "light", ground);
      for (const path of [...PAGES, "views/answers?key=open&sentence=0"]) {
        await opened.page.goto(`${program.url}/#/${path}`);
        await opened.page.locator("main h1, main .empty h2").first().waitFor();
        await opened.page.locator(".waiting").first().waitFor({ state: "detached" });
        const over = await opened.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(over <= 0, `${path} is ${over} px too wide`);
        await opened.page.evaluate(axe);
        const found = await opened.page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
        const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
        const told = serious.map(
          ({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`,
        );
        assert.deepEqual(told, [], path);
      }
      assert.deepEqual(opened.wrong, []);
    } finally {
      await other.close();
    }
  });
}

test("the theme is switched by a key, and stays", async () => {
  await show("views");
  await page.evaluate(() => document.activeElement.blur());
  const shown = () => page.evaluate(() => document.documentElement.dataset.theme);
  const begun = await shown();
  await page.keyboard.press("d");
  const switched = await shown();
  assert.notEqual(switched, begun);
  await page.reload();
  await page.locator("main h1").waitFor();
  assert.equal(await shown(), switched);
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("d");
});

test("a lost connection is said, and the page goes on where it was", async () => {
  await show("views/answers");
  await card("open").locator(".answer").waitFor();
  await program.stop();
  await page.locator(".banner", { hasText: "The connection is lost" }).waitFor();
  assert.ok(await card("open").isVisible(), "what stood is still shown");
  await program.start();
  const feed = program.feed("docs", hours("eleven"));
  await card("open").locator("ins", { hasText: "eleven" }).waitFor();
  await feed;
  await page.locator(".banner.hidden").waitFor({ state: "attached" });
});

test("nothing went wrong on any page", () => {
  assert.deepEqual(wrong, []);
});

test("a token is asked for, kept in the tab, and sent with the subscription", async () => {
  const token = "0b1f6f4d8a3e47f3a1c5e7d9f2b4c6e8";
  const guarded = new Program(join(here, "app.sql"));
  const other = await openBrowser();
  try {
    await guarded.open();
    await guarded.feed("docs", ...DOCUMENTS);
    await guarded.feed("questions", { key: "open", text: "When does the town library open?" });
    await guarded.stop();
    const file = join(guarded.folder, "tokens");
    await writeFile(file, `admin ${token}\n`);
    await guarded.startWith(["--token-file", file]);
    const opened = await openPage(other.context, `${guarded.url}/#/views/answers`, wasToCome);
    const dialog = opened.page.getByRole("dialog", { name: "A token, please" });
    await dialog.getByLabel("Token").fill("0000000000000000000000000000000f");
    await opened.page.keyboard.press("Enter");
    await dialog.getByText("does not know this token").waitFor();
    await dialog.getByLabel("Token").fill(token);
    await opened.page.keyboard.press("Enter");
    await opened.page.locator('[data-key="open"] .answer').waitFor();
    const kept = await opened.page.evaluate(() => [JSON.stringify({ ...sessionStorage }), JSON.stringify({ ...localStorage }), document.cookie]);
    assert.ok(kept[0].includes(token));
    assert.ok(!kept[1].includes(token) && kept[2] === "");
    assert.ok(!opened.page.url().includes(token));
    assert.deepEqual(opened.wrong, []);
  } finally {
    await other.close();
    await guarded.close();
  }
});
