// pg-boss 12: https://pgboss.io. A lane is a singletonKey of a key_strict_fifo queue.

import { installed, main, nap, terminated } from "./driver.mjs";
import { now } from "./ledger.mjs";

const { PgBoss } = installed("pg-boss");

const QUEUE = "job";
const FIFO = "job-fifo";
const BATCHES = { batchSize: 1000, localConcurrency: 4, burstWhenBatchFull: true };
// The end of a lane's job wakes nobody for the next one: it is found by polling, at the least allowed.
const EAGER = { pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 };

const spec = ({ lane }) => (lane < 0 ? {} : { singletonKey: `lane-${lane}` });

async function started(dsn, options) {
  const boss = new PgBoss({ connectionString: dsn, useListenNotify: true, ...options });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  return boss;
}

async function producer(dsn, connections, lanes) {
  const boss = await started(dsn, {
    max: connections,
    supervise: false,
    schedule: false,
    migrate: false,
    useListenNotify: false,
  });
  const queue = lanes ? FIFO : QUEUE;
  return {
    enqueue: (job) => boss.send(queue, job.payload, spec(job)),
    enqueueMany: (jobs) =>
      boss.insert(
        queue,
        jobs.map((job) => ({ data: job.payload, ...spec(job) })),
      ),
    close: () => boss.stop(),
  };
}

async function setup(dsn) {
  const boss = await started(dsn);
  await boss.createQueue(QUEUE, { notify: true, partition: true });
  await boss.createQueue(FIFO, { notify: true, partition: true, policy: "key_strict_fifo" });
  await boss.stop();
}

async function work(dsn, ledger, { lanes }) {
  const boss = await started(dsn);
  // A batch has at most one job of a lane, so that its jobs may run at once here as well.
  await boss.work(
    lanes ? FIFO : QUEUE,
    { ...BATCHES, ...(lanes ? EAGER : {}) },
    (jobs) =>
      Promise.all(
        jobs.map(async ({ data }) => {
          const begun = now();
          await nap(data);
          ledger.add(data, begun);
        }),
      ),
  );
  await terminated();
  await boss.stop({ graceful: true, timeout: 5000 });
}

await main({ chunk: 10_000, setup, producer, work });
