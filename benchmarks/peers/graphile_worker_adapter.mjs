// graphile-worker 0.18: https://worker.graphile.org. A lane is a named queue.

import { installed, main, nap, terminated } from "./driver.mjs";
import { now } from "./ledger.mjs";

const { Logger, makeWorkerUtils, run } = installed("graphile-worker");

const TASK = "job";
const CONCURRENCY = 24;
// The end of a named queue's job wakes nobody for the next one: it is found by polling.
const EAGER = { pollInterval: 1 };
const quiet = new Logger(() => () => {});

const spec = ({ lane }) => (lane < 0 ? {} : { queueName: `lane-${lane}` });

async function producer(dsn, connections) {
  const utils = await makeWorkerUtils({
    connectionString: dsn,
    maxPoolSize: connections,
    logger: quiet,
  });
  return {
    enqueue: (job) => utils.addJob(TASK, job.payload, spec(job)),
    enqueueMany: (jobs) =>
      utils.addJobs(
        jobs.map((job) => ({ identifier: TASK, payload: job.payload, ...spec(job) })),
      ),
    close: () => utils.release(),
  };
}

async function setup(dsn) {
  const utils = await makeWorkerUtils({ connectionString: dsn, logger: quiet });
  await utils.migrate();
  await utils.release();
}

async function work(dsn, ledger, { lanes }) {
  const runner = await run({
    noHandleSignals: true,
    taskList: {
      [TASK]: async (payload) => {
        const begun = now();
        await nap(payload);
        ledger.add(payload, begun);
      },
    },
    preset: {
      worker: {
        connectionString: dsn,
        concurrentJobs: CONCURRENCY,
        maxPoolSize: CONCURRENCY + 1,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        logger: quiet,
        ...(lanes ? EAGER : {}),
      },
    },
  });
  await terminated();
  await runner.stop();
}

await main({ chunk: 10_000, setup, producer, work });
