// BullMQ: Redis lists and Lua, jobs removed at their end.
import { Queue, Worker } from "bullmq";
import { REDIS, command, ran } from "./common.mjs";

const { hostname: host, port } = new URL(REDIS);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const options = { removeOnComplete: true, removeOnFail: true };
let queue;
const opened = () => (queue ??= new Queue("bench", { connection }));
const job = { name: "noop", data: { sent: 0 }, opts: options };

await command(
  (sent) => opened().add("noop", { sent }, options),
  (jobs) => opened().addBulk(Array.from({ length: jobs }, () => job)),
  () => new Worker("bench", async (job) => ran(job.data.sent), { connection, concurrency: 100 }),
);
