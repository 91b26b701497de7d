// Takes the pictures of docs/console.md, of a server that runs `examples/island.sql` and is left alone:
//
//   node pictures.mjs http://127.0.0.1:7070

import { fileURLToPath } from "node:url";
import { openBrowser } from "./browser.mjs";

const url = process.argv[2] ?? "http://127.0.0.1:7070";
const folder = fileURLToPath(new URL("../../docs/pictures/", import.meta.url));
const { context, close } = await openBrowser({ viewport: { width: 1200, height: 760 }, colorScheme: "light" });
context.setDefaultTimeout(300_000);
const page = await context.newPage();

// A price is corrected, and the answer follows.
await page.goto(`${url}/#/try?stream=notes&document=tickets`);
const field = page.locator(".editor textarea");
await page.locator('[data-key="ferry"] .answer').waitFor();
const text = await field.inputValue();
const price = Number(text.match(/(\d+) crowns/)[1]);
await field.fill(text.replace(`${price} crowns`, `${price + 2} crowns`));
await page.keyboard.press("Control+Enter");
await page.locator('[data-key="ferry"] ins').waitFor();
await page.getByText("Visible in epoch").waitFor();
await page.evaluate(() => {
  document.activeElement.blur();
  scrollTo(0, 0);
});
await page.mouse.move(1195, 5);
await page.screenshot({ path: `${folder}console-light.png` });

// What the answer leans on.
await page.emulateMedia({ colorScheme: "dark" });
await page.goto(`${url}/#/views/answers?key=ferry&sentence=0`);
await page.locator(".lineage .passage-text").first().waitFor();
await page.locator('.lineage [role="gridcell"]').last().focus();
await page.evaluate(() => scrollTo(0, document.querySelector(".with-panel").offsetTop - 60));
await page.waitForFunction(() => document.querySelector(".lineage .readout strong") !== null);
await page.screenshot({ path: `${folder}console-dark.png` });
await close();
