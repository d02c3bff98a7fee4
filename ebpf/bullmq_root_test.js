// The traffic of bullmq_root_test.c: BullMQ itself on the Redis of the socket that is argument 1. Prints
// one JSON object: what BullMQ's own side counted.
"use strict";
const { Queue, Worker } = require("bullmq");
const connection = { path: process.argv[2], maxRetriesPerRequest: null };
const JOBS = 300;
const truth = { created: 0, started: 0, completed: 0, retried: 0, stalled: 0 };
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function main() {
  const queue = new Queue("traced", { connection });
  await queue.waitUntilReady();
  const names = Array.from({ length: JOBS }, (_, i) =>
    i === 7 ? "long" : i % 50 === 1 ? "fails-once" : "short");
  for (let i = 0; i < JOBS; i++) {
    await queue.add(names[i], { i }, { attempts: 2 });
    truth.created++;
  }
  // A worker that dies with a job in its hands: taken, and not heard of again.
  const dead = new Worker("traced", null, { connection, autorun: false, lockDuration: 250 });
  const lost = await dead.getNextJob("dead");
  truth.started += lost === undefined ? 0 : 1;
  await dead.close();

  const worker = new Worker("traced", async (job) => {
    truth.started++;
    await pause(job.name === "long" ? 900 : 2);
    if (job.name === "fails-once" && job.attemptsMade === 0) {
      truth.retried++;
      throw new Error("once");
    }
  }, { connection, concurrency: 8, lockDuration: 400, stalledInterval: 300, maxStalledCount: 5 });
  worker.on("stalled", () => truth.stalled++);
  const all = new Promise((done) => worker.on("completed", () => {
    if (++truth.completed === JOBS) done();
  }));
  await all;
  await worker.close();
  await queue.close();
  console.log(JSON.stringify(truth));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
