/* What the report's browser tests share: Chromium, cases that are counted, and sets to draw.
 *
 * A case is a sentence and a function; all run, each failure is printed, and the end is what tally.py
 * reads. Exit 77 with the reason where the browser or its driver is not installed. */
"use strict";
const childProcess = require("child_process");
const fs = require("fs");
const os = require("os");
const path = require("path");

const modules = [process.env.NPM_BUILD_ROOT, process.env.NPM_SOURCE_ROOT]
  .filter(Boolean).map((root) => path.join(root, "node_modules"))
  .find((dir) => fs.existsSync(path.join(dir, "playwright-core", "package.json")));

function skip(reason) {
  console.error(reason);
  process.exit(77);
}

function findChromium() {
  const names = ["chromium", "chromium-browser", "google-chrome"];
  for (const dir of (process.env.PATH || "").split(":")) {
    for (const name of names) {
      const file = path.join(dir, name);
      if (fs.existsSync(file)) { return file; }
    }
  }
  return null;
}

const chromiumPath = findChromium();
if (modules === undefined) {
  skip("skipped: playwright-core is in node_modules of neither the build nor the source folder");
}
if (chromiumPath === null) { skip("skipped: no chromium on PATH"); }

class Skip extends Error {}

/* Leave the case out, and say why. */
function skipCase(reason) { throw new Skip(reason); }

const cases = [];
const test = (name, run) => cases.push({ name, run });

/* The npm package of that name, or a file of it. */
const packageFile = (...parts) => path.join(modules, ...parts);

/* A folder that is gone when the program ends. */
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "codeq-report-"));
process.on("exit", () => fs.rmSync(folder, { recursive: true, force: true }));

/* Run a program; stdout. Throws with its stderr. */
function run(argv, options) {
  const done = childProcess.spawnSync(argv[0], argv.slice(1),
    Object.assign({ encoding: "utf8", maxBuffer: 64 << 20, timeout: 60000 }, options));
  if (done.error) { throw done.error; }
  if (done.status !== 0 && !(options && options.anyStatus)) {
    throw new Error(argv.slice(0, 3).join(" ") + ": exit " + done.status + ": " + done.stderr);
  }
  return done.stdout;
}

/* Open a file in a page of its own. Every request but the file itself is refused and kept in
 * page.requests; what the console says and what is thrown in page.complaints. */
async function open(browser, file, settings) {
  const context = await browser.newContext(Object.assign(
    { viewport: { width: 1280, height: 900 }, offline: true }, settings));
  const page = await context.newPage();
  page.requests = [];
  page.complaints = [];
  page.on("console", (m) => page.complaints.push(m.type() + ": " + m.text()));
  page.on("pageerror", (e) => page.complaints.push(e.message));
  page.on("dialog", (d) => { page.complaints.push("dialog: " + d.message()); d.dismiss(); });
  await context.route("**/*", (route) => {
    const url = route.request().url();
    if (url.startsWith("file://" + file)) { return route.continue(); }
    page.requests.push(url);
    return route.abort();
  });
  await page.goto("file://" + file);
  return page;
}

/* Run all cases; `prepare` gets the browser first and returns what each case is given. */
async function main(prepare) {
  const { chromium } = require(packageFile("playwright-core"));
  const browser = await chromium.launch({
    executablePath: chromiumPath,
    args: ["--no-sandbox", "--force-color-profile=srgb", "--font-render-hinting=none",
      "--enable-unsafe-swiftshader", "--disable-lcd-text"],
  });
  let failed = 0;
  const skipped = [];
  try {
    const given = await prepare(browser);
    for (const one of cases) {
      console.log("[ RUN      ] " + one.name);
      try {
        await one.run(given);
        console.log("[       OK ] " + one.name);
      } catch (error) {
        if (error instanceof Skip) {
          skipped.push(one.name);
          console.log(error.message + "\n[  SKIPPED ] " + one.name);
          continue;
        }
        failed++;
        console.log(String(error.stack || error).split("\n").slice(0, 12).join("\n"));
        console.log("[  FAILED  ] " + one.name);
      } finally {
        await Promise.all(browser.contexts().map((context) => context.close()));
      }
    }
  } finally {
    await browser.close();
  }
  console.log("[==========] " + cases.length + " test(s) run.");
  console.log("[  PASSED  ] " + (cases.length - failed - skipped.length) + " test(s).");
  if (skipped.length > 0) { console.log("[  SKIPPED ] " + skipped.length + " test(s), listed below:"); }
  if (failed > 0) { console.log("[  FAILED  ] " + failed + " test(s), listed below:"); }
  process.exitCode = failed > 0 ? 1 : 0;
}

function start(prepare) {
  main(prepare).catch((error) => {
    console.log(error.stack);
    process.exitCode = 1;
  });
}

module.exports = { test, start, open, run, skipCase, folder, packageFile };
