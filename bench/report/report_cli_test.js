/* The report in a real browser: node report_cli_test.js CODEQ-BENCH SOURCE-ROOT. */
"use strict";
const assert = require("assert");
const childProcess = require("child_process");
const fs = require("fs");
const path = require("path");
const { test, start, open, run, folder, packageFile } = require("./browser.js");

const bench = path.resolve(process.argv[2]);
const sourceRoot = path.resolve(process.argv[3]);
const A = "eed34041f95b871af00a6796034774193f1347fb/6f5739c7";
const B = "dbfb9455a5175f12381acb577b5a22349f75f30c/6f5739c7";
const FIRST = "a44d12465b4d3f0c22d37337a06e6d4d726deb94/6f5739c7";
const LOAD = "81d56fda66f2ba6bc9091b195b03523f27ee02a4/3783afae";
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

/* Unfold the part of that heading. */
async function openPart(page, heading) {
  await page.click("summary >> text=" + heading);
  await drawn(page);
}

/* The first frame of that name as it is drawn. */
const frame = async (page, name) => (await page.$(".fr >> text=/^" + name + "$/")).boundingBox();

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

test("what was compared, where, and each metric's effect with its interval lead", async ({ browser, pair }) => {
  const page = await open(browser, pair);
  const head = await page.innerText("header");
  assert.match(head, /A, before\s+eed34041f95b service: fuzz tokens/);
  assert.match(head, /B, after\s+dbfb9455a517 store: write lengths/);
  assert.match(head, /2 cores, Linux .*Redis 7\.0\.15.*environment 6f5739c7/);
  assert.match(head, /timed runs quiet/);
  const rows = await page.$$eval("main > .scroll tbody tr", (all) => all.map((r) => r.innerText));
  assert.match(rows[0], /instructions\/op\s+better\s+-5\.83 %\s+11.044\.8\s+10.400\.8\s+3 repeats, exact/);
  const bar = await page.$("main > .scroll tbody tr svg");
  assert.match(await bar.getAttribute("aria-label"), /^-5\.83 %, from -5\.83 to -5\.83$/);
  const dot = await bar.$eval(".dot", (e) => +e.getAttribute("cx"));
  assert.ok(dot > 4 && dot < 40, "the dot of -5.83 % stands at " + dot + " of 120");
  assert.ok((await (await page.$("main > .scroll tbody tr")).boundingBox()).y < 500);
});

test("one set of many scenarios leads with a line for each, with sample sizes", async ({ browser, site }) => {
  const page = await open(browser, path.join(site, "set-a44d12465b4d-6f5739c7.html"));
  const rows = await page.$$eval("main > .scroll tbody tr", (all) => all.map((r) => r.innerText));
  assert.strictEqual(rows.length, 7);
  const row = rows.find((r) => r.startsWith("scheduler-create-claim-complete"));
  assert.match(row, /10.889\.8 \(3\)\s+3 \(3\)\s+24 \(3\)\s+0 \(3\).*81\.7 µs \(5\)/);
});

test("a set of load leads with latency and the objectives that were missed", async ({ browser }) => {
  const file = path.join(folder, "load.html");
  run([bench, "report", path.join(sourceRoot, "results", LOAD), "-o", file]);
  const page = await open(browser, file);
  const heads = await page.$$eval("main > .scroll thead th", (all) => all.map((e) => e.innerText));
  assert.deepStrictEqual(heads, ["scenario", "tasks/s", "claim p50", "claim p99", "codeqd CPU/task", "Redis CPU/task", "objectives"]);
  const rows = await page.$$eval("main > .scroll tbody tr", (all) => all.map((r) => r.innerText));
  assert.strictEqual(rows.length, 16);
  assert.match(rows.find((r) => r.startsWith("load-prefill")), /\d+ of \d+ kept/);
  assert.match(rows.find((r) => r.startsWith("load-sustained")), /missed claim\.p99_ms \(4 of 5 kept\)/);
});

test("a chart tells the values under the pointer, and zooms", async ({ browser, pair }) => {
  const page = await open(browser, pair);
  await openPart(page, "Latency");
  const plot = await page.$("[data-chart] .u-over");
  await plot.scrollIntoViewIfNeeded();
  const over = await plot.boundingBox();
  await page.mouse.move(over.x + over.width / 2, over.y + over.height / 2);
  const legend = await page.innerText("[data-chart] .u-legend");
  assert.match(legend, /percentile\s*:?\s*p9\d/);
  assert.match(legend, /create A, n = 419762\s*:?\s*\d+(\.\d+)? µs/);
  const range = () => page.$eval("[data-chart]", (box) => box.plot.scales.x.max - box.plot.scales.x.min);
  const before = await range();
  await page.mouse.move(over.x + over.width * 0.4, over.y + 50);
  await page.mouse.down();
  await page.mouse.move(over.x + over.width * 0.7, over.y + 50, { steps: 4 });
  await page.mouse.up();
  assert.ok(await range() < before / 2, "dragging did not zoom");
});

test("a click in the flame graph zooms and shows the function's source lines", async ({ browser, pair }) => {
  const page = await open(browser, pair);
  await openPart(page, "Where the instructions go");
  const whole = await frame(page, "store_claim");
  await page.click(".fr >> text=/^store_claim$/");
  const zoomed = await frame(page, "store_claim");
  assert.ok(zoomed.width > 2 * whole.width, whole.width + " -> " + zoomed.width);
  assert.strictEqual(await page.$(".fr >> text=/^store_complete$/"), null);
  assert.match(await page.innerText(".flame-status"), /^store_claim: .* → .* instructions per operation/);
  await page.click(".flame-bar button");
  await page.click(".functions button >> text=/^conn_arg_space$/");
  const lines = await page.innerText(".lines");
  assert.match(lines, /conn_arg_space: instructions per operation of each line, A → B/);
  assert.match(lines, /src\/store\/conn\.c/);
  assert.match(lines, /put_header\(/);
  assert.match(lines, /-\d+/);
});

test("the flame graph is searched and walked by keyboard", async ({ browser, pair }) => {
  const page = await open(browser, pair);
  await openPart(page, "Where the instructions go");
  await page.fill(".flame-bar input", "conn_arg");
  assert.match(await page.innerText(".flame-status"), /^\d+ frames hold “conn_arg”: \d+\.\d\d % of the width/);
  assert.ok(await page.$$eval(".fr.hit", (all) => all.length) >= 3);
  await page.fill(".flame-bar input", "");
  assert.strictEqual(await page.$$eval(".fr.hit", (all) => all.length), 0);
  await page.focus(".frames");
  for (let i = 0; i < 3; i++) { await page.keyboard.press("ArrowUp"); }
  assert.match(await page.innerText(".flame-status"), /^call_claim: /);
  await page.keyboard.press("ArrowRight");
  assert.match(await page.innerText(".flame-status"), /^call_complete: /);
  const before = await frame(page, "call_complete");
  await page.keyboard.press("Enter");
  assert.ok((await frame(page, "call_complete")).width > 2 * before.width);
  await page.keyboard.press("Escape");
  assert.ok(Math.abs((await frame(page, "call_complete")).width - before.width) < 1);
  await page.keyboard.press("ArrowDown");
  assert.match(await page.innerText(".flame-status"), /^all: 11,045 → 10,401 instructions per operation/);
});

test("folded parts open by keyboard", async ({ browser, pair }) => {
  const page = await open(browser, pair);
  await page.focus("summary >> text=Latency");
  await page.keyboard.press("Enter");
  await drawn(page);
  assert.ok(await page.isVisible("[data-chart] canvas"));
});

test("paper is white whatever the theme, and has the verdict and the charts that are open",
  async ({ browser, pair }) => {
    const page = await open(browser, pair, { colorScheme: "dark" });
    await openPart(page, "Latency");
    await page.emulateMedia({ media: "print" });
    await page.evaluate(() => window.dispatchEvent(new Event("beforeprint")));
    assert.strictEqual(await page.$eval("body", (b) => getComputedStyle(b).backgroundColor), "rgb(255, 255, 255)");
    const ink = await page.$eval("[data-chart]", (box) => box.plot.axes[0].stroke());
    assert.strictEqual(ink, "#1b1f24");
    const pdf = await page.pdf({ format: "A4" });
    assert.strictEqual(pdf.subarray(0, 5).toString(), "%PDF-");
    assert.ok(pdf.length > 20000, "a file of " + pdf.length + " bytes");
    await page.evaluate(() => window.dispatchEvent(new Event("afterprint")));
    await page.emulateMedia({ media: "screen" });
    assert.strictEqual(await page.$eval("body", (b) => getComputedStyle(b).backgroundColor), "rgb(13, 17, 23)");
  });

test("what one operation costs is drawn and told", async ({ browser, pair }) => {
  const page = await open(browser, pair);
  await openPart(page, "What one operation costs");
  const text = await page.innerText("details:has(.cost)");
  assert.match(text, /3 round trips, 3 commands sent, 532\.52 B sent, 160 B received/);
  assert.match(text, /Instructions of the client, by module: 11.044\.8 → 10.400\.8/);
  assert.match(text, /store 7.661\.8 → 7.017\.8/);
  assert.match(text, /System calls of the client: 9 → 9/);
  const widths = await page.$$eval(".cost:nth-of-type(2) .stack", (all) =>
    all.map((e) => [...e.children].reduce((sum, c) => sum + c.getBoundingClientRect().width, 0)));
  assert.ok(widths.length === 2 && widths[1] < widths[0] * 0.96, "bars of " + widths);
});

test("the history marks what changed and links to its comparison", async ({ browser, site }) => {
  const page = await open(browser, path.join(site, "index.html"));
  const rows = await page.$$eval("main > .scroll tbody tr", (all) => all.map((r) => r.innerText));
  const row = rows.find((r) => r.startsWith("dbfb9455a517"));
  assert.match(row, /store: write lengths .*scheduler-create-claim-complete\s+instructions\/op/);
  assert.match(row, /11.044\.8 → 10.400\.8\s+-5\.83 %\s+better/);
  const charts = await page.$$eval("[data-drawn]", (all) => all.length);
  assert.ok(charts >= 5, charts + " charts");
  const figures = await page.$$eval("section:first-of-type figure", (all) => all.map((f) => f.innerText));
  const which = figures.findIndex((text) => text.startsWith("instructions"));
  const plot = (await page.$$(".u-over"))[which];
  await plot.scrollIntoViewIfNeeded();
  const over = await plot.boundingBox();
  await page.mouse.move(over.x + over.width * 0.95, over.y + over.height / 2);
  const legend = await (await page.$$(".u-legend"))[which].innerText();
  assert.match(legend, /[0-9a-f]{12} \w+: /);
  const marked = await page.$eval("[data-chart=\"" + which + "\"] canvas", (canvas) => {
    const pixel = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let purple = 0;
    for (let i = 0; i < pixel.length; i += 4) {
      purple += pixel[i + 3] > 200 && pixel[i] > 90 && pixel[i] < 150 && pixel[i + 1] < 80 && pixel[i + 2] > 180;
    }
    return purple;
  });
  assert.ok(marked > 30, "the change is marked by " + marked + " pixels");
  const link = "compare-eed34041f95b-dbfb9455a517-6f5739c7.html";
  assert.ok(await page.$("main > .scroll a[href=\"" + link + "\"]"));
  const compared = await open(browser, path.join(site, link));
  assert.match(await compared.innerText("#verdict"), /better: -967 instructions/);
  assert.deepStrictEqual(page.complaints.concat(compared.complaints), []);
});

test("every link of the site leads to a page", async ({ browser, site }) => {
  const page = await open(browser, path.join(site, "index.html"));
  const links = await page.$$eval("a", (all) => all.map((a) => a.getAttribute("href")));
  assert.ok(links.length >= 5, links.join());
  links.forEach((link) => assert.ok(fs.existsSync(path.join(site, link)), link));
});

test("nothing is asked of the network and nothing complains", async ({ browser, pair, single, site }) => {
  for (const file of [pair, single, path.join(site, "index.html")]) {
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

/* The README's pictures: REPORT_SCREENSHOTS=DIR keeps them there. */
test("the pictures of the README are made, and small", async ({ browser, pair }) => {
  const page = await open(browser, pair, { viewport: { width: 960, height: 500 }, colorScheme: "light" });
  const keep = process.env.REPORT_SCREENSHOTS;
  const take = async (name, clip) => {
    const png = await page.screenshot({ clip });
    assert.strictEqual(png.subarray(1, 4).toString(), "PNG");
    assert.ok(png.length > 20000 && png.length < 120000, name + " has " + png.length + " bytes");
    if (keep) { fs.writeFileSync(path.join(keep, name), png); }
  };
  await page.mouse.move(0, 0);
  await take("screenshot-verdict.png");
  await openPart(page, "Where the instructions go");
  await page.click(".functions button >> text=/^conn_arg_space$/");
  await page.$eval(".flame", (e) => e.parentElement.scrollIntoView());
  await page.mouse.move(0, 0);
  await take("screenshot-flame.png");
});

test("a narrow and a wide screen need no sideways scrolling", async ({ browser, pair, single, site }) => {
  for (const file of [pair, single, path.join(site, "index.html")]) {
    for (const width of [400, 1600]) {
      const page = await open(browser, file, { viewport: { width, height: 900 } });
      await openAll(page);
      await drawn(page);
      const [content, window] = await widths(page);
      assert.ok(content <= window, width + " px wide, its content " + content);
    }
  }
});

test("a narrow screen shows each metric's verdict and effect without scrolling", async ({ browser, pair }) => {
  const page = await open(browser, pair, { viewport: { width: 400, height: 900 } });
  const cells = await page.$$("main > .scroll tbody tr:first-child td");
  for (const cell of cells.slice(0, 3)) {
    const box = await cell.boundingBox();
    assert.ok(box.x + box.width <= 400, await cell.innerText() + " ends at " + (box.x + box.width));
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

/* A copy of the two sets in a results folder of its own, with nothing drawn yet. */
function copyOfSets(name, sets = [A, B]) {
  const root = path.join(folder, name);
  for (const set of sets) {
    fs.cpSync(path.join(sourceRoot, "results", set), path.join(root, "results", set), { recursive: true });
  }
  return root;
}

test("compare writes the page beside its result, says where, and json asks for none", () => {
  const root = copyOfSets("beside");
  const sets = [path.join("results", A), path.join("results", B)];
  const done = childProcess.spawnSync(bench, ["compare", ...sets], { cwd: root, encoding: "utf8" });
  const file = "results/.reports/eed34041f95b-dbfb9455a517.html";
  assert.strictEqual(done.stderr, "report: " + file + "\n");
  assert.match(fs.readFileSync(path.join(root, file), "utf8"), /better: -967 instructions\/op in conn_arg_space/);
  fs.rmSync(path.join(root, "results", ".reports"), { recursive: true });
  run([bench, "compare", "--json", ...sets], { cwd: root });
  assert.ok(!fs.existsSync(path.join(root, "results", ".reports")));
});

test("a set with its page still verifies", () => {
  const root = copyOfSets("verify");
  const set = path.join(root, "results", B);
  run([bench, "report", set], { cwd: root });
  assert.ok(fs.existsSync(path.join(set, "report.html")));
  run([bench, "verify", set], { cwd: root });
});

/* Two sets of twelve scenarios each, made of the committed one. */
function twelve() {
  const root = copyOfSets("twelve");
  for (const set of [A, B]) {
    const dir = path.join(root, "results", set);
    const manifest = JSON.parse(fs.readFileSync(path.join(dir, "manifest.json"), "utf8"));
    const first = manifest.scenarios[0];
    const files = Object.entries(manifest.files).filter(([name]) => name.startsWith(first + "/"));
    for (let i = 1; i < 12; i++) {
      fs.cpSync(path.join(dir, first), path.join(dir, "scenario-" + i), { recursive: true });
      files.forEach(([name, sum]) => { manifest.files[name.replace(first, "scenario-" + i)] = sum; });
    }
    manifest.scenarios = manifest.scenarios.concat([...Array(11).keys()].map((i) => "scenario-" + (i + 1))).sort();
    fs.writeFileSync(path.join(dir, "manifest.json"), JSON.stringify(manifest));
  }
  return root;
}

test("two commits of twelve scenarios stay below 2 MiB and are drawn whole", async ({ browser }) => {
  const root = twelve();
  const file = path.join(folder, "twelve.html");
  const began = process.hrtime.bigint();
  run([bench, "report", path.join("results", A), path.join("results", B), "-o", file], { cwd: root });
  const ms = Number((process.hrtime.bigint() - began) / 1000000n);
  const bytes = fs.statSync(file).size;
  console.log("12 scenarios of two commits: " + ms + " ms, " + bytes + " bytes");
  assert.ok(bytes < 2 << 20, bytes + " bytes");
  const page = await open(browser, file);
  assert.strictEqual(await page.$$eval("main > section", (all) => all.length), 13);
  await openAll(page);
  await drawn(page);
  assert.deepStrictEqual(page.complaints, []);
  const charts = await page.$$eval("[data-chart][data-drawn]", (all) => all.length);
  assert.ok(charts >= 12 * 10, charts + " charts");
});

/* As a load scenario leaves it: seconds with p50 and p99, and an objective. */
function setWithSeconds() {
  const root = copyOfSets("seconds");
  const dir = path.join(root, "results", B, "scheduler-create-claim-complete");
  const lines = fs.readFileSync(path.join(dir, "runs.ndjson"), "utf8").split("\n");
  const first = JSON.parse(lines[0]);
  first.win = { claim: [...Array(30).keys()].map((i) => [15000 + 100 * i, 45000 + 3000 * (i % 7), 2000]) };
  first.noise = "disturbed: other processes used 84 % of the cores";
  lines[0] = JSON.stringify(first);
  fs.writeFileSync(path.join(dir, "runs.ndjson"), lines.join("\n"));
  const scenario = JSON.parse(fs.readFileSync(path.join(dir, "scenario.json"), "utf8"));
  scenario.slo = ["claim.p99_ms <= 0.05", "errors == 0"];
  fs.writeFileSync(path.join(dir, "scenario.json"), JSON.stringify(scenario));
  return path.join(root, "results", B);
}

test("seconds of a run are drawn with the objective as a line, and a disturbed run is named", async ({ browser }) => {
  const file = path.join(folder, "seconds.html");
  run([bench, "report", setWithSeconds(), "-o", file], { cwd: sourceRoot });
  const page = await open(browser, file);
  assert.match(await page.innerText("header"), /1 of 5 timed runs disturbed: other processes used 84 %/);
  await openPart(page, "Latency");
  const which = await page.$$eval("figure", (all) => all.findIndex((f) => /^p50 and p99 of each second/.test(f.innerText)));
  const figure = (await page.$$("figure"))[which];
  await figure.evaluate((e) => { e.id = "under-test"; });
  const box = await figure.$(".u-over");
  await box.scrollIntoViewIfNeeded();
  const over = await box.boundingBox();
  await page.mouse.move(over.x + over.width / 2, over.y + over.height / 2);
  assert.match(await figure.innerText(), /second of the run\s*:?\s*1[56][\s\S]*p50\s*:?\s*16\.\d µs[\s\S]*p99\s*:?\s*\d+(\.\d)? µs/);
  const purple = await page.$eval("#under-test canvas", (canvas) => {
    const pixel = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const rows = new Map();
    for (let i = 0; i < pixel.length; i += 4) {
      if (pixel[i + 3] > 200 && Math.abs(pixel[i] - 122) < 30 && pixel[i + 1] < 90 && pixel[i + 2] > 180) {
        const row = Math.floor(i / 4 / canvas.width);
        rows.set(row, (rows.get(row) || 0) + 1);
      }
    }
    return Math.max(0, ...rows.values());
  });
  assert.ok(purple > 40, "the objective's line has " + purple + " pixels");
});

test("a set of load says which process each profile is of", async ({ browser }) => {
  const root = copyOfSets("service", [LOAD]);
  const dir = path.join(root, "results", LOAD, "load-sustained");
  const table = (rows) => "# codeq-lab.functions/1\n# ops 100\nfunction\tobject\tfile\tself\tinclusive\tcalls\n" + rows;
  fs.writeFileSync(path.join(dir, "functions.tsv"), table("conn_turn\tcodeqd\tconn.c\t40000\t50000\t300\n"));
  fs.writeFileSync(path.join(dir, "folded.txt"), "# codeq-lab.folded/1\n# ops 100\nthread_main;conn_turn 40000\n");
  fs.mkdirSync(path.join(dir, "redis"));
  fs.writeFileSync(path.join(dir, "redis", "functions.tsv"), table("luaV_execute\tredis-server\tlvm.c\t70000\t90000\t200\n" +
    HOSTILE + "\tredis-server\tlvm.c\t10\t10\t1\n"));
  fs.writeFileSync(path.join(dir, "service.json"), JSON.stringify({ schema: "codeq-lab.service/1",
    "callgrind.codeqd": { ops: 100, requests: 300, instructions: 5_000_000 },
    "callgrind.redis": { ops: 120, requests: 300, instructions: 9_000_000, script_instructions: 6_000_000 },
    "massif.codeqd": { not_measured: "no massif " + HOSTILE } }));
  const file = path.join(folder, "service.html");
  run([bench, "report", path.join("results", LOAD), "-o", file], { cwd: root });
  const page = await open(browser, file);
  await openAll(page);
  const rows = (await page.$$eval("[aria-label='under Valgrind'] tbody tr", (all) => all.map((r) => r.innerText)))
    .map((row) => row.replace(/[\u202f,]/g, " ").replace(/\s+/g, " ").trim());
  assert.deepStrictEqual(rows.slice(0, 3), ["codeqd instructions a task 50 000 100",
    "redis-server instructions a task 75 000 120", "redis-server of them in Lua scripts 50 000 120"]);
  assert.match(rows[3], /^codeqd heap at its peak not measured: no massif <\/script>/);
  assert.strictEqual(rows.length, 4);
  const codeqd = await page.innerText("details:has(> summary:has-text('of codeqd go'))");
  assert.match(codeqd, /conn_turn[\s\S]*User-space instructions of codeqd/);
  assert.doesNotMatch(codeqd, /luaV_execute|the client/);
  const redis = await page.innerText("details:has(> summary:has-text('of redis-server go'))");
  assert.match(redis, /luaV_execute[\s\S]*User-space instructions of redis-server/);
  assert.doesNotMatch(redis, /conn_turn/);
  assert.strictEqual(await page.evaluate(() => window.ran), undefined);
  assert.strictEqual(await page.$("img"), null);
});

test("live stacks stand where they were recorded", async ({ browser }) => {
  const root = copyOfSets("live");
  const dir = path.join(root, "results", B, "scheduler-create-claim-complete");
  fs.writeFileSync(path.join(dir, "oncpu.folded"), "# codeqd, 99 Hz\nmain;turn;conn_on_ready 30\nmain;turn 10\n");
  fs.writeFileSync(path.join(dir, "offcpu.folded"), "main;ev_run;" + HOSTILE.replace(/ /g, "_") + " 70000\nmain;fsync 30000\n");
  fs.writeFileSync(path.join(dir, "live.json"), JSON.stringify({ schema: "codeq-lab.live/1",
    oncpu: { seconds: 3.5, frequency_hz: 499, samples: 40, dropped: 0 },
    offcpu: { seconds: 2, waited_ns: 100000, dropped: 0 } }));
  const file = path.join(folder, "live.html");
  run([bench, "report", path.join("results", B), "-o", file], { cwd: root });
  const page = await open(browser, file);
  await openPart(page, "Live stacks");
  const text = await page.innerText("details[open]");
  assert.match(text, /3\.5 s at 499 Hz and core, in a run of its own/);
  assert.match(text, /On the CPU[\s\S]*all: 40 samples[\s\S]*Off the CPU[\s\S]*all: 100,000 ns waited/);
  assert.strictEqual(await page.evaluate(() => window.ran), undefined);
  assert.strictEqual(await page.$("img"), null);
});

test("live stacks that could not be recorded say why", async ({ browser }) => {
  const root = copyOfSets("nolive");
  const dir = path.join(root, "results", B, "scheduler-create-claim-complete");
  fs.writeFileSync(path.join(dir, "live.json"), JSON.stringify({ schema: "codeq-lab.live/1",
    oncpu: { not_measured: "CAP_BPF missing " + HOSTILE }, offcpu: { not_measured: "as above" } }));
  const file = path.join(folder, "nolive.html");
  run([bench, "report", path.join("results", B), "-o", file], { cwd: root });
  const page = await open(browser, file);
  await openPart(page, "Live stacks");
  const text = await page.innerText("details[open]");
  assert.match(text, /On the CPU\s+Not measured: CAP_BPF missing[\s\S]*Off the CPU\s+Not measured: as above/);
  assert.strictEqual(await page.evaluate(() => window.ran), undefined);
  assert.strictEqual(await page.$("img"), null);
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

/* The three sets that these tests know, apart from what else results/ holds by now. */
function siteSets() {
  const dir = path.join(folder, "results");
  for (const set of [A, B, FIRST]) {
    fs.cpSync(path.join(sourceRoot, "results", set), path.join(dir, set), { recursive: true });
  }
  return dir;
}

start(async (browser) => {
  const pair = path.join(folder, "pair.html");
  const single = path.join(folder, "single.html");
  const result = (set) => path.join(sourceRoot, "results", set);
  run([bench, "report", result(A), result(B), "-o", pair], { cwd: sourceRoot });
  run([bench, "report", result(B), "-o", single], { cwd: sourceRoot });
  const site = path.join(folder, "site");
  run([bench, "report", "--site", site, "--results", siteSets()], { cwd: sourceRoot });
  return { browser, pair, single, site };
});
