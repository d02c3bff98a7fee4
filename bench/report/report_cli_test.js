/* The report in a real browser: node report_cli_test.js CODEQ-BENCH SOURCE-ROOT. */
"use strict";
const assert = require("assert");
const fs = require("fs");
const path = require("path");
const { test, start, open, run, folder, packageFile } = require("./browser.js");

const bench = path.resolve(process.argv[2]);
const sourceRoot = path.resolve(process.argv[3]);
const A = "eed34041f95b871af00a6796034774193f1347fb/6f5739c7";
const B = "dbfb9455a5175f12381acb577b5a22349f75f30c/6f5739c7";
const HOSTILE = "</script><img src=x onerror=window.ran=1>\"'&";

/* Dark and bright pixels of the first canvas in the element: an empty one is of one colour. */
const coloursOf = (page, selector) => page.$eval(selector, (canvas) => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Map();
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < 128) { continue; }
    const key = [data[i] >> 4, data[i + 1] >> 4, data[i + 2] >> 4].join();
    seen.set(key, (seen.get(key) || 0) + 1);
  }
  return [...seen.values()].filter((n) => n > 50).length;
});

const openAll = (page) => page.$$eval("details", (all) => all.forEach((d) => { d.open = true; }));

/* Folded parts are drawn when they open: wait until every chart says so. */
const drawn = (page) => page.waitForFunction(() =>
  [...document.querySelectorAll("[data-chart]")]
    .every((box) => box.clientWidth === 0 || box.dataset.drawn === "yes"));

async function widths(page) {
  return page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
}

test("the verdict and its cause stand on the first screen", async ({ browser, pair }) => {
  const page = await open(browser, pair);
  const verdict = await page.$("#verdict");
  assert.match(await verdict.innerText(), /better: -967 instructions\/op in conn_arg_space/);
  const box = await verdict.boundingBox();
  assert.ok(box.y + box.height < 900, "below the first screen");
});

test("nothing is asked of the network and nothing complains", async ({ browser, pair, single }) => {
  for (const file of [pair, single]) {
    const page = await open(browser, file);
    await openAll(page);
    await drawn(page);
    assert.deepStrictEqual(page.requests, []);
    assert.deepStrictEqual(page.complaints, []);
  }
});

test("every chart is drawn and not empty, in both themes", async ({ browser, pair }) => {
  for (const colorScheme of ["light", "dark"]) {
    const page = await open(browser, pair, { colorScheme });
    await openAll(page);
    await drawn(page);
    const charts = await page.$$("[data-chart]");
    assert.ok(charts.length >= 3, "only " + charts.length + " charts");
    for (let i = 0; i < charts.length; i++) {
      await charts[i].evaluate((box) => { box.id = "under-test"; });
      const colours = await coloursOf(page, "#under-test canvas");
      assert.ok(colours >= 3, "chart " + i + " in " + colorScheme + " has " + colours + " colours");
      await charts[i].evaluate((box) => { box.id = ""; });
    }
  }
});

test("without scripts the tables are there", async ({ browser, pair }) => {
  const page = await open(browser, pair, { javaScriptEnabled: false });
  const text = await page.textContent("main");
  assert.match(text, /conn_arg_space/);
  assert.match(text, /p99\.9/);
});

test("a narrow and a wide screen need no sideways scrolling", async ({ browser, pair, single }) => {
  for (const file of [pair, single]) {
    for (const width of [400, 1600]) {
      const page = await open(browser, file, { viewport: { width, height: 900 } });
      await openAll(page);
      await drawn(page);
      const [content, window] = await widths(page);
      assert.ok(content <= window, width + " px wide, its content " + content);
    }
  }
});

test("axe finds nothing serious, in both themes", async ({ browser, pair, single }) => {
  const axe = fs.readFileSync(packageFile("axe-core", "axe.min.js"), "utf8");
  for (const file of [pair, single]) {
    for (const colorScheme of ["light", "dark"]) {
      const page = await open(browser, file, { colorScheme });
      await openAll(page);
      await drawn(page);
      await page.evaluate(axe);
      const found = await page.evaluate(async () => (await window.axe.run()).violations
        .filter((v) => v.impact === "serious" || v.impact === "critical")
        .map((v) => v.id + ": " + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")));
      assert.deepStrictEqual(found, [], colorScheme);
    }
  }
});

/* A repository whose commit's subject is hostile, and a set of it with hostile names. */
function hostileSet() {
  const root = path.join(folder, "hostile");
  const git = (...args) => run(["git", "-C", root, "-c", "user.name=n", "-c", "user.email=e",
    "-c", "commit.gpgsign=false", ...args]).trim();
  fs.mkdirSync(root);
  git("init", "-q");
  git("commit", "-q", "--allow-empty", "-m", "subject " + HOSTILE);
  const commit = git("rev-parse", "HEAD");
  const set = path.join(root, "results", commit, "6f5739c7");
  fs.cpSync(path.join(sourceRoot, "results", B), set, { recursive: true });
  const edit = (name, change) => {
    const file = path.join(set, name);
    fs.writeFileSync(file, change(fs.readFileSync(file, "utf8")));
  };
  const inJson = JSON.stringify(HOSTILE).slice(1, -1);
  const scenario = "scheduler-create-claim-complete";
  edit("manifest.json", (text) => text.replace(/"commit": "[0-9a-f]+"/, `"commit": "${commit}"`));
  edit("env.json", (text) => text.replace(/"cpu_name": "[^"]*"/, `"cpu_name": "${inJson}"`));
  for (const name of ["functions.tsv", "folded.txt", "heap.tsv", "callgrind.out"]) {
    edit(scenario + "/" + name, (text) => text.replaceAll("conn_arg_space", "conn " + HOSTILE));
  }
  edit(scenario + "/summary.json", (text) => text.replaceAll("\"unit\": \"ns\"", `"unit": "${inJson}"`));
  return { root, set };
}

test("hostile subjects, names and units do not run", async ({ browser }) => {
  const { root, set } = hostileSet();
  const file = path.join(folder, "hostile.html");
  run([bench, "report", set, "-o", file], { cwd: root });
  const page = await open(browser, file);
  await openAll(page);
  await drawn(page);
  assert.strictEqual(await page.evaluate(() => window.ran), undefined);
  assert.strictEqual(await page.$("img"), null);
  assert.match(await page.textContent("h1"), /subject <\/script><img/);
  assert.ok((await page.textContent("main")).includes("conn " + HOSTILE.slice(0, 20)));
  assert.deepStrictEqual(page.complaints, []);
  assert.deepStrictEqual(page.requests, []);
});

start(async (browser) => {
  const pair = path.join(folder, "pair.html");
  const single = path.join(folder, "single.html");
  const result = (set) => path.join(sourceRoot, "results", set);
  run([bench, "report", result(A), result(B), "-o", pair], { cwd: sourceRoot });
  run([bench, "report", result(B), "-o", single], { cwd: sourceRoot });
  return { browser, pair, single };
});
