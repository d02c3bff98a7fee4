/* Exports, each read by a program that is not ours, and `show`: node export_cli_test.js CODEQ-BENCH
 * SOURCE-ROOT. Stacks are read by speedscope and go tool pprof, csv by Python, OpenMetrics by Prometheus' own client
 * library for Python; benchstat's text is held against the rules of its format. */
"use strict";
const assert = require("assert");
const childProcess = require("child_process");
const fs = require("fs");
const path = require("path");
const { test, start, run, skipCase, folder, packageFile } = require("./report/browser.js");

const bench = path.resolve(process.argv[2]);
const sourceRoot = path.resolve(process.argv[3]);
const SET = path.join(sourceRoot, "results", "dbfb9455a5175f12381acb577b5a22349f75f30c", "6f5739c7");
const SCENARIO = "scheduler-create-claim-complete";
const TWO = path.join(sourceRoot, "results", "a44d12465b4d3f0c22d37337a06e6d4d726deb94", "6f5739c7");

const readSet = (name) => fs.readFileSync(path.join(SET, SCENARIO, name), "utf8");
const summary = () => JSON.parse(readSet("summary.json"));

function exported(format, name, ...more) {
  const file = path.join(folder, name);
  run([bench, "export", "--format", format, "-o", file, ...more, SET]);
  return file;
}

/* [total, self] of each function, from the profile as it was kept. */
function functionsOf() {
  const out = new Map();
  for (const line of readSet("functions.tsv").split("\n")) {
    const cells = line.split("\t");
    if (cells.length === 6 && cells[0] !== "function") {
      out.set(cells[0], (out.get(cells[0]) || 0) + Number(cells[3]));
    }
  }
  return out;
}

/* What speedscope's table of functions says: name -> itself, as it writes it. */
async function inSpeedscope(browser, file) {
  const index = packageFile("speedscope", "dist", "release", "index.html");
  const context = await browser.newContext({ viewport: { width: 1280, height: 2000 }, offline: true });
  const page = await context.newPage();
  await page.goto("file://" + index);
  await page.setInputFiles("input[type=file]", file);
  await page.click("text=Sandwich");
  await page.waitForSelector("td >> text=conn_arg_space");
  const rows = await page.$$eval("tr", (all) => all.map((r) => [...r.cells].map((c) => c.innerText.trim())));
  await context.close();
  return new Map(rows.filter((r) => r.length >= 3).map((r) => [r[2], r[1]]));
}

for (const [format, name] of [["pprof", "x.pb.gz"], ["folded", "x.txt"], ["speedscope", "x.json"]]) {
  test("speedscope reads " + format + " and finds the same instructions", async ({ browser }) => {
    const seen = await inSpeedscope(browser, exported(format, name));
    const kept = functionsOf();
    for (const fn of ["conn_arg_space", "redisReaderGetReply", "build_space", "__memcpy_avx_unaligned"]) {
      assert.ok(seen.has(fn), fn + " is not among " + [...seen.keys()].slice(0, 8));
      assert.strictEqual(Number(seen.get(fn).split(" ")[0].replace(/,/g, "")), kept.get(fn), fn);
    }
  });
}

test("go tool pprof finds the same instructions, itself and with callees", () => {
  if (childProcess.spawnSync("go", ["version"]).error) { skipCase("golang-go is not installed"); }
  const file = exported("pprof", "go.pb.gz");
  const env = { ...process.env, HOME: folder, PPROF_TMPDIR: folder };
  const top = run(["go", "tool", "pprof", "-top", "-nodecount=1000", "-nodefraction=0", file], { env });
  const kept = functionsOf();
  const rows = top.split("\n").map((l) => l.match(/^ *(\d+) +[\d.]+% +[\d.]+% +(\d+) +[\d.]+% +(.*)$/)).filter(Boolean);
  const total = [...kept.values()].reduce((a, b) => a + b, 0);
  assert.match(top, new RegExp("of " + total + " total"));
  const seen = new Map(rows.map((r) => [r[3], r]));
  for (const [fn, self] of kept) {
    if (self > 0) { assert.strictEqual(Number(seen.get(fn)[1]), self, fn); }
  }
  assert.strictEqual(Number(seen.get("drive_work_run")[2]), total);
});

test("speedscope reads the trace events, an instruction being a microsecond", async ({ browser }) => {
  const seen = await inSpeedscope(browser, exported("chrome", "trace.json"));
  assert.match(seen.get("conn_arg_space"), /^299\.00ms/);
  assert.strictEqual(functionsOf().get("conn_arg_space"), 299000);
});

test("trace events open and close in order", () => {
  const events = JSON.parse(fs.readFileSync(exported("chrome", "trace2.json"), "utf8")).traceEvents;
  const open = [];
  let last = 0;
  for (const event of events) {
    assert.ok(event.ts >= last, "time goes back at " + event.name);
    last = event.ts;
    if (event.ph === "B") { open.push(event.name); } else { assert.strictEqual(open.pop(), event.name); }
  }
  assert.deepStrictEqual(open, []);
  assert.strictEqual(last, [...functionsOf().values()].reduce((a, b) => a + b, 0));
});

test("heap weights are exported too, and weights that nothing has are an error", async ({ browser }) => {
  const lines = fs.readFileSync(exported("folded", "peak.txt", "--weight", "peak"), "utf8").trim().split("\n");
  const sum = lines.reduce((total, line) => total + Number(line.slice(line.lastIndexOf(" "))), 0);
  const column = readSet("heap.tsv").split("\n").filter((l) => /\t\d/.test(l)).map((l) => Number(l.split("\t")[6]));
  assert.strictEqual(sum, column.reduce((a, b) => a + b, 0));
  const done = childProcess.spawnSync(bench, ["export", "--format", "folded", "--weight", "live", SET], { encoding: "utf8" });
  assert.strictEqual(done.status, 2);
  assert.match(done.stderr, /^codeq-bench: export: .*no stack has any live\n$/);
});

/* Debian's own, which has its packages, where another one stands before it. */
const PYTHON = fs.existsSync("/usr/bin/python3") ? "/usr/bin/python3" : "python3";
const python = (script, input) => run([PYTHON, "-c", script], { input });

test("Python's csv reader finds each metric and its value", () => {
  const text = run([bench, "export", "--format", "csv", SET]);
  assert.ok(text.split("\n").slice(0, -1).every((line) => line.endsWith("\r")), "lines end in CRLF");
  const rows = JSON.parse(python("import csv, json, sys\n" +
    "sys.stdin.reconfigure(newline='')\nprint(json.dumps(list(csv.DictReader(sys.stdin, strict=True))))", text));
  const metrics = summary().metrics;
  assert.strictEqual(rows.length, metrics.length);
  metrics.forEach((metric, i) => {
    assert.strictEqual(rows[i].metric, metric.id);
    assert.strictEqual(Number(rows[i].value), metric.value);
    assert.strictEqual(Number(rows[i].runs), metric.values.length);
  });
});

test("what a spreadsheet takes for a formula is text, and quotes are doubled", () => {
  const set = path.join(folder, "formula");
  fs.cpSync(SET, set, { recursive: true });
  const file = path.join(set, SCENARIO, "summary.json");
  fs.writeFileSync(file, fs.readFileSync(file, "utf8").replace(/"unit": "ns"/, "\"unit\": \"=cmd|'/c calc'!A1,\\\"x\""));
  const text = run([bench, "export", "--format", "csv", set]);
  const rows = JSON.parse(python("import csv, json, sys\nprint(json.dumps(list(csv.DictReader(sys.stdin, strict=True))))", text));
  assert.strictEqual(rows[0].unit, "'=cmd|'/c calc'!A1,\"x");
});

test("Prometheus' parser reads OpenMetrics and finds the values", () => {
  const has = childProcess.spawnSync(PYTHON, ["-c", "import prometheus_client.openmetrics.parser"]);
  if (has.status !== 0) { skipCase("python3-prometheus-client is not installed"); }
  const families = JSON.parse(python("import json, sys\n" +
    "from prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n" +
    "print(json.dumps({f.name: [f.type, [[s.labels, s.value] for s in f.samples]] for f in read(sys.stdin.read())}))",
    run([bench, "export", "--format", "openmetrics", TWO])));
  const [type, samples] = families.codeq_bench_instructions_per_op;
  assert.strictEqual(type, "gauge");
  assert.ok(samples.length >= 6, samples.length + " samples");
  const one = samples.find(([labels]) => labels.scenario === "json-large")[1];
  const kept = JSON.parse(fs.readFileSync(path.join(TWO, "json-large", "summary.json"), "utf8")).metrics
    .find((m) => m.id.endsWith(".instructions_per_op")).value;
  assert.strictEqual(one, kept);
});

test("benchstat's text keeps to its format, with a line for each run", () => {
  const lines = run([bench, "export", "--format", "benchstat", SET]).trim().split("\n");
  const results = lines.filter((line) => line.startsWith("Benchmark"));
  /* Keys begin with a lower-case letter and hold no space or upper case. */
  lines.filter((line) => !line.startsWith("Benchmark"))
    .forEach((line) => assert.match(line, /^[a-z][^\sA-Z:]*: \S/));
  for (const line of results) {
    const fields = line.split(" ");
    assert.match(fields[0], /^Benchmark[^a-z]\S*$/);
    assert.match(fields[1], /^[1-9]\d*$/);
    assert.ok(fields.length >= 4 && fields.length % 2 === 0, line);
    for (let i = 2; i < fields.length; i += 2) {
      assert.ok(Number.isFinite(Number(fields[i])), line);
      assert.match(fields[i + 1], /^[^\d\s]\S*$|^p\d/);
    }
  }
  const p99 = summary().metrics.find((m) => m.id === "claim.latency_ns_p99").values;
  const claims = results.filter((line) => line.startsWith("BenchmarkClaim/" + SCENARIO + " "));
  assert.deepStrictEqual(claims.map((line) => Number(/ (\S+) p99-ns/.exec(line)[1])), p99);
  assert.ok(results.some((line) => / 10400\.83 instructions\/op/.test(line)));
});

test("an unknown format is refused by name", () => {
  const done = childProcess.spawnSync(bench, ["export", "--format", "xml", SET], { encoding: "utf8" });
  assert.strictEqual(done.status, 2);
  assert.match(done.stderr, /^codeq-bench: export: --format xml: unknown: give pprof, .*benchstat\n$/);
});

test("show draws histogram and spectrum of each operation", () => {
  const text = run([bench, "show", SET]);
  const parts = text.split("\n\n");
  assert.deepStrictEqual(parts.map((part) => part.split(" ")[0]), ["create", "claim", "complete"]);
  const claim = parts[1];
  assert.match(claim, /^claim of scheduler-create-claim-complete in dbfb9455: 420273 calls in 5 runs\n/);
  const shares = [...claim.matchAll(/(\d+\.\d{3}) % [▏▎▍▌▋▊▉█]/g)].map((m) => Number(m[1]));
  assert.ok(shares.length > 8, shares.length + " rows");
  assert.ok(Math.abs(shares.reduce((a, b) => a + b, 0) - 100) < 0.02, "shares add up to 100 %");
  assert.match(claim, /\n {4}p50 +15\.4 us {2}[▏▎▍▌▋▊▉█]+\n/);
  const bars = [...claim.matchAll(/\n {4}p[\d.]+ +[\d.]+ \ws {2}([▏▎▍▌▋▊▉█]+)/g)].map((m) => m[1].length);
  assert.deepStrictEqual(bars, [...bars].sort((a, b) => a - b), "the spectrum rises");
  const one = run([bench, "show", "--operation", "claim", SET]);
  assert.strictEqual(one.trim(), claim.trim());
});

start(async (browser) => ({ browser }));
