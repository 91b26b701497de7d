// Can everybody use the console: on a phone, by keys alone, and by ear?
//
// The tests share one program, with names and words as long as they come.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openBrowser, openPage } from "./browser.mjs";
import { Program } from "./program.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const LONG_KEY = "folders/that/lie/deep/in/others/and-a-name-of-many-words_without_any_blank_0123456789.md";
const LONG_WORD = "Verylongwordwithoutanyblank".repeat(6);
const PAGES = [
  "views",
  "views/answers",
  "views/answers?key=open&sentence=0",
  "views/answers/attention",
  "views/answers/timeline",
  "views/answers/plan",
  "views/long_docs",
  "views/docs",
  "try",
  `try?stream=docs&document=${encodeURIComponent(LONG_KEY)}`,
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
  program = new Program(join(fileURLToPath(new URL(".", import.meta.url)), "app.sql"));
  await program.open();
  await program.feed(
    "docs",
    { key: "hours", title: "Opening hours", text: "The town library opens at nine in the morning.\n" },
    { key: LONG_KEY, title: LONG_WORD, text: `${LONG_WORD}. The children's room is on the second floor.\n` },
    `{"key": "${LONG_KEY}", "txt": "${LONG_WORD}"}`,
  );
  await program.feed("questions", { key: "open", text: "When does the town library open?" });
  await program.feed("questions", { key: LONG_KEY, text: "On which floor is the children's room?" });
  await program.ask("POST", "/v1/sql", JSON.stringify({
    sql: `CREATE TABLE a_table_with_a_name_that_goes_on_and_on_and_does_not_end_for_long (key TEXT, n BIGINT);`,
  }));
  browser = await openBrowser();
  ({ page, wrong } = await openPage(browser.context, `${program.url}/#/views`));
});

after(async () => {
  await browser?.close();
  await program?.close();
});

async function show(path, on = page) {
  await on.goto(`${program.url}/#/${path}`);
  await on.locator("main h1").first().waitFor();
  await on.locator(".waiting").first().waitFor({ state: "detached" });
}

const focused = () => page.evaluate(() => document.activeElement.textContent);

/** What reaches beyond the window, but for what is in a part that scrolls by itself. */
function cutOff() {
  const found = [];
  for (const element of document.querySelectorAll("#app *")) {
    const { right, left, width } = element.getBoundingClientRect();
    if (width === 0 || (right <= innerWidth + 1 && left >= -1)) continue;
    if (element.closest(".sr, .skip") || element.parentElement.closest(".scroll, pre, .documents")) continue;
    found.push(`${element.tagName}.${element.getAttribute("class")} ${Math.round(left)}–${Math.round(right)}`);
  }
  return found;
}

for (const [width, colorScheme] of [[360, "light"], [768, "dark"], [1280, "light"]]) {
  test(`nothing is cut off in ${width} pixels, however long names are`, async () => {
    const other = await openBrowser({ colorScheme, bypassCSP: true, viewport: { width, height: 800 } });
    try {
      const opened = await openPage(other.context, `${program.url}/#/views`);
      for (const path of PAGES) {
        await show(path, opened.page);
        const over = await opened.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(over <= 0, `${path} is ${over} px too wide`);
        assert.deepEqual(await opened.page.evaluate(cutOff), [], path);
        await opened.page.evaluate(axe);
        const { violations } = await opened.page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
        const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
        assert.deepEqual(serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target)}`), [], path);
      }
      assert.deepEqual(opened.wrong, []);
    } finally {
      await other.close();
    }
  });
}

test("a phone shows every page's link, and numbers as lists", async () => {
  const other = await openBrowser({ viewport: { width: 360, height: 800 } });
  try {
    const opened = await openPage(other.context, `${program.url}/#/operations`);
    const links = opened.page.getByRole("navigation", { name: "Pages" }).getByRole("link");
    await links.first().waitFor();
    for (const link of await links.all()) {
      const { x, width } = await link.boundingBox();
      assert.ok(x >= 0 && x + width <= 360, `${await link.innerText()} reaches to ${x + width}`);
    }
    const state = opened.page.locator('td[data-label="State"]').first();
    const { x, width } = await state.boundingBox();
    assert.ok(x >= 0 && x + width <= 360, "the last column is seen");
  } finally {
    await other.close();
  }
});

test("a page that was gone to has the focus at its heading; one that was opened has not", async () => {
  await page.reload();
  await page.locator("tbody").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement === document.body), true);
  await page.getByRole("link", { name: "long_docs" }).first().press("Enter");
  await page.getByRole("heading", { level: 1, name: "long_docs" }).waitFor();
  await page.locator("table.data").waitFor();
  assert.equal(await focused(), "long_docs");
  assert.match(await page.title(), /^long_docs/);
  for (const [key, title] of [["q", "Quarantine"], ["o", "Operations"], ["t", "Try a change"], ["s", "SQL"], ["v", "Views"]]) {
    await page.keyboard.press("g");
    await page.keyboard.press(key);
    await page.getByRole("heading", { level: 1, name: title, exact: true }).waitFor();
    await page.waitForFunction((text) => document.activeElement.textContent === text, title);
  }
  // Parts of a view are gone to and fro: the focus stays on their links.
  await show("views/answers");
  await page.getByRole("link", { name: "Plan" }).press("Enter");
  await page.locator("svg .node").first().waitFor();
  assert.equal(await focused(), "Plan");
});

test("what a sentence leans on has the focus when it opens, and gives it back", async () => {
  await show("views/answers");
  const sentence = page.locator('[data-key="open"] .sentence').first();
  await sentence.press("Enter");
  const panel = page.getByRole("complementary", { name: "What a sentence leans on" });
  await panel.locator(".passages").waitFor();
  assert.equal(await focused(), "What it leans on");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Close (Esc)");
  await page.keyboard.press("Enter");
  await panel.waitFor({ state: "detached" });
  assert.ok(await sentence.evaluate((one) => one === document.activeElement));
});

test("wherever Tab goes, the focus is seen", async () => {
  for (const path of ["views", "views/answers?key=open&sentence=0", "views/answers/attention", "views/answers/plan", "try", "sql", "quarantine", "operations"]) {
    await show(path);
    // Tab begins at the top of a page that was opened.
    await page.reload();
    await page.locator("main h1").first().waitFor();
    await page.locator(".waiting").first().waitFor({ state: "detached" });
    const stops = new Set();
    for (let n = 0; n < 60; n += 1) {
      await page.keyboard.press("Tab");
      const stop = await page.evaluate(() => {
        const element = document.activeElement;
        if (element === document.body) return null;
        const { outlineStyle, outlineWidth } = getComputedStyle(element);
        const node = element.querySelector("rect");
        const isRinged = outlineStyle !== "none" && outlineWidth !== "0px";
        const isDrawn = element.matches(".node") && getComputedStyle(node).strokeWidth === "2.5px";
        return { isSeen: isRinged || isDrawn, is: `${element.tagName} ${element.className?.baseVal ?? element.className} ${element.textContent.slice(0, 30)}` };
      });
      if (stop === null) break;
      assert.ok(stop.isSeen, `${path}: ${stop.is}`);
      stops.add(stop.is);
    }
    assert.ok(stops.size > 9, `${path} has ${stops.size} stops`);
  }
});

test("a plan is a table, too", async () => {
  await show("views/answers/plan");
  await page.getByText("The same as a table").click();
  const row = page.locator("table.data tbody tr").filter({ has: page.getByRole("rowheader", { name: "answers", exact: true }) });
  assert.match(await row.innerText(), /answers\s+answers\s+docs, questions\s+2\s+\d+\s+\d+ calls?/);
});

test("an epoch is told in a few words; words being written, tables and counters are not", async () => {
  await show("views/answers");
  await page.locator('[data-key="open"] .answer').waitFor();
  await program.feed("docs", { key: "hours", title: "Opening hours", text: "The town library opens at ten in the morning.\n" });
  const told = page.locator('[aria-live="polite"]', { hasText: "hours changed" });
  assert.match(await told.innerText(), /^Epoch \d+: hours changed, \d+ changes?, read \d+ of 2 questions/);
  for (const path of ["views/answers", "views/answers/timeline", "views/long_docs", "operations"]) {
    await show(path);
    const loud = await page.evaluate(() =>
      [...document.querySelectorAll("[role=status], [role=alert], [aria-live]")]
        .filter((one) => one.querySelector("table, .draft, .banner, .chips") !== null || one.textContent.length > 300)
        .map((one) => one.outerHTML.slice(0, 200)),
    );
    assert.deepEqual(loud, [], path);
  }
  await show("sql");
  await page.getByRole("textbox").fill("SELECT key, text FROM docs;");
  await page.keyboard.press("Control+Enter");
  await page.getByRole("region", { name: "Result" }).waitFor();
  const result = page.locator('[aria-live="polite"]', { hasText: /^1 statement ran in .*, 2 rows$/ });
  await result.waitFor();
  assert.equal(await page.locator("[aria-live] table, [role=status] table").count(), 0);
});

test("answers do not jump when an epoch begins and ends", async () => {
  const hours = (hour) =>
    program.feed("docs", { key: "hours", title: "Opening hours", text: `The town library opens at ${hour} in the morning.\n` });
  await show("views/answers");
  await page.locator('[data-key="open"] .answer').waitFor();
  await hours("eight");
  await page.locator(".chip", { hasText: "open" }).waitFor();
  await page.evaluate(() => {
    window.tops = new Set();
    window.wasUnderWay = false;
    const look = () => {
      window.tops.add(document.querySelector(".cards").getBoundingClientRect().top);
      window.wasUnderWay ||= document.querySelector(".spinner") !== null;
    };
    look();
    new MutationObserver(look).observe(document.querySelector("main"), { childList: true, subtree: true, characterData: true });
  });
  await hours("seven");
  await page.locator('[data-key="open"] ins', { hasText: "seven" }).waitFor();
  assert.ok(await page.evaluate(() => window.wasUnderWay));
  assert.equal(await page.evaluate(() => window.tops.size), 1);
});

test("nothing went wrong on any page", () => {
  assert.deepEqual(wrong, []);
});
