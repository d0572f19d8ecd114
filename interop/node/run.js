// Runs the official Node.js client against a server; one line for each feature.
'use strict';

const { randomBytes } = require('node:crypto');
const { format } = require('node:util');
const {
  Producer, SimpleConsumer, PushConsumer, ConsumeResult, FilterExpression,
} = require('rocketmq-client-nodejs');
const { FilterType, TransactionResolution } = require('rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb');

const { OPEN, FIFO, STRICT, GUARDED, MORTAL, DEAD_GROUP, NORMAL_TOPIC } = process.env;
const RUN = randomBytes(4).toString('hex');
// What the client complains of, its own repetitions among it, goes to client.log, so that a failure can be explained.
const complain = level => (...words) => console.error(new Date().toISOString(), level, format(...words));
const logger = { debug() {}, info() {}, warn: complain('warn'), error: complain('error') };
const failed = [];

const name = what => `node-${what}-${RUN}`;
const now = () => Date.now();
const sleep = ms => new Promise(done => setTimeout(done, ms));

function check(condition, words) {
  if (!condition) throw new Error(typeof words === 'string' ? words : JSON.stringify(words));
}

async function report(feature, run) {
  const began = now();
  try {
    const detail = await run();
    console.log(`${feature}\tok\t${detail} (${((now() - began) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed.push(feature);
    const after = ((now() - began) / 1000).toFixed(1);
    console.log(`${feature}\tFAIL\t${error.name}: ${error.message} (after ${after} s)`);
  }
}

async function sending(topic, options, work) {
  const producer = new Producer({ endpoints: OPEN, topics: [ topic ], logger, ...options });
  await producer.startup();
  try {
    return await work(producer);
  } finally {
    await producer.shutdown();
  }
}

async function receiving(topic, options, work) {
  const { filter = '*', ...rest } = options;
  const consumer = new SimpleConsumer({
    endpoints: OPEN, consumerGroup: `g-${topic}`, subscriptions: new Map([[ topic, filter ]]),
    awaitDuration: 5000, logger, ...rest,
  });
  await consumer.startup();
  try {
    return await work(consumer);
  } finally {
    await consumer.shutdown();
  }
}

async function take(consumer, count, { seconds = 15, ack = true } = {}) {
  const taken = [];
  const end = now() + seconds * 1000;
  while (taken.length < count && now() < end) {
    for (const got of await consumer.receive(16, 15000)) {
      taken.push({ got, body: got.body.toString(), at: now() });
      if (ack) await consumer.ack(got);
    }
  }
  return taken;
}

const bodies = taken => taken.map(each => each.body);
const message = (topic, body, more = {}) => ({ topic, body: Buffer.from(body), ...more });

async function normal() {
  const topic = name('normal');
  await sending(topic, {}, producer => receiving(topic, {}, async consumer => {
    for (let index = 0; index < 10; index++) {
      const properties = new Map([[ 'index', String(index) ]]);
      await producer.send(message(topic, `body ${index}`, { tag: 'tag', keys: [ `key-${index}` ], properties }));
    }
    const taken = await take(consumer, 10);
    check(taken.length === 10, bodies(taken));
    check(taken.every(({ got }) => got.tag === 'tag' && got.properties.get('index')), 'properties');
    check((await take(consumer, 1, { seconds: 2 })).length === 0, 'an acknowledged message came again');
  }));
  return '10 sent, received with tag, key and property, acknowledged';
}

async function delay() {
  const topic = name('delay');
  return sending(topic, {}, producer => receiving(topic, {}, async consumer => {
    const due = now() + 2500;
    await producer.send(message(topic, 'late', { deliveryTimestamp: new Date(due) }));
    const [{ at }] = await take(consumer, 1);
    check(at >= due, `${due - at} ms early`);
    return `${at - due} ms after its time`;
  }));
}

async function fifo() {
  const topic = name('fifo');
  await sending(topic, { endpoints: FIFO }, producer => receiving(topic, { endpoints: FIFO }, async consumer => {
    for (let index = 0; index < 6; index++) {
      await producer.send(message(topic, String(index), { messageGroup: 'g' }));
    }
    const taken = bodies(await take(consumer, 6));
    check(taken.join('') === '012345', taken);
  }));
  return '6 of one message group in order';
}

async function recall() {
  const topic = name('recall');
  await sending(topic, {}, producer => receiving(topic, {}, async consumer => {
    // The client gives each call 3 s, sends again then, and does not repeat a recall: with less time ahead a busy
    // machine lets the message come due before it is recalled, and the server then truly says that it is too late.
    const due = now() + 10000;
    const deliveryTimestamp = new Date(due);
    const kept = await producer.send(message(topic, 'kept', { deliveryTimestamp }));
    const gone = await producer.send(message(topic, 'gone', { deliveryTimestamp }));
    check(now() < due, `${now() - due} ms late: two sends took more than 10 s`);
    const recalled = await producer.recallMessage(topic, gone.recallHandle);
    check(recalled.messageId === gone.messageId, recalled);
    const taken = bodies(await take(consumer, 2, { seconds: 15 }));
    check(taken.join() === 'kept', taken);
    await refused(() => producer.recallMessage(topic, kept.recallHandle), /too late/);
  }));
  return 'recalled one is never delivered, a delivered one is too late';
}

async function redelivery() {
  const topic = name('redelivery');
  await sending(topic, {}, producer => receiving(topic, {}, async consumer => {
    await producer.send(message(topic, 'x'));
    const [{ got }] = await consumer.receive(1, 10000).then(list => list.map(got => ({ got })));
    check(got.deliveryAttempt === 1, String(got.deliveryAttempt));
    const began = now();
    const [ second ] = await take(consumer, 1, { seconds: 20 });
    check(second.got.deliveryAttempt === 2 && second.at - began >= 9500, second.at - began);
  }));
  return 'again after the invisible duration, attempt 2';
}

async function pushed(topic, endpoints, count, fails, consumerGroup = `g-${topic}`) {
  const seen = [];
  let done;
  const all = new Promise(resolve => { done = resolve; });
  const consumer = new PushConsumer({
    endpoints, consumerGroup, subscriptions: new Map([[ topic, '*' ]]), logger,
    messageListener: {
      async consume(got) {
        seen.push([ got.body.toString(), got.deliveryAttempt ]);
        if (seen.length >= count) done();
        return fails(got.body.toString(), got.deliveryAttempt) ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
      },
    },
  });
  await consumer.startup();
  return { seen, all: () => Promise.race([ all, sleep(40000) ]), stop: () => consumer.shutdown() };
}

async function push() {
  const topic = name('push');
  await sending(topic, {}, async producer => {
    const { seen, all, stop } = await pushed(topic, OPEN, 21, (body, attempt) => body === '0' && attempt === 1);
    for (let index = 0; index < 20; index++) await producer.send(message(topic, String(index)));
    await all();
    await stop();
    check(seen.some(([ body, attempt ]) => body === '0' && attempt === 2), seen);
  });
  return '20 pushed, the one that failed again as attempt 2';
}

async function pushFifo() {
  const topic = name('push-fifo');
  await sending(topic, { endpoints: FIFO }, async producer => {
    const { seen, all, stop } = await pushed(topic, FIFO, 6, () => false);
    for (let index = 0; index < 6; index++) await producer.send(message(topic, String(index), { messageGroup: 'g' }));
    await all();
    await stop();
    check(seen.map(([ body ]) => body).join('') === '012345', seen);
  });
  return '6 of one message group in order';
}

async function deadLetter() {
  const topic = name('dead');
  const letters = `%DLQ%${DEAD_GROUP}`;
  await sending(topic, {}, async producer => {
    const { seen, all, stop } = await pushed(topic, OPEN, 2, () => true, DEAD_GROUP);
    await producer.send(message(topic, 'poison'));
    await all();
    await receiving(letters, { consumerGroup: `g-letters-${RUN}` }, async reader => {
      const taken = bodies(await take(reader, 1, { seconds: 30 }));
      check(taken.join() === 'poison', taken);
    });
    await stop();
    check(seen.map(([ , attempt ]) => attempt).join() === '1,2', seen);
  });
  return `refused twice, then read from ${letters}`;
}

async function until(condition, seconds) {
  for (const end = now() + seconds * 1000; !condition();) {
    check(now() < end, `nothing in ${seconds} s`);
    await sleep(20);
  }
}

async function restart() {
  const topic = name('restart');
  const kept = [], wrong = [];
  let stop = false;
  async function send(producer) {
    for (let index = 0; !stop; index++) {
      try {
        await producer.send(message(topic, String(index)));
        kept.push(String(index));
      } catch (error) {
        wrong.push(error);
        await sleep(100);
      }
    }
  }
  await sending(topic, { endpoints: MORTAL }, producer => receiving(topic, { endpoints: MORTAL }, async consumer => {
    const sends = send(producer);
    try {
      await until(() => kept.length >= 100, 20);
      console.log('!restart');
      await new Promise(done => process.stdin.once('data', done));
      const before = kept.length;
      await until(() => kept.length >= before + 100, 60);
    } finally {
      stop = true;
      await sends;
    }
    const missing = new Set(kept);
    for (const end = now() + 60000; missing.size && now() < end;) {
      try {
        for (const got of await consumer.receive(16, 15000)) {
          missing.delete(got.body.toString());
          await consumer.ack(got);
        }
      } catch {
        await sleep(100);
      }
    }
    check(missing.size === 0, `${missing.size} of ${kept.length} are lost`);
  }));
  return `${kept.length} acknowledged around a kill, all received; ${wrong.length} sends failed`;
}

async function transaction() {
  const topic = name('transaction');
  const asked = [];
  const checker = { async check(got) { asked.push(got.body.toString()); return TransactionResolution.COMMIT; } };
  await sending(topic, { checker }, producer => receiving(topic, {}, async consumer => {
    for (const body of [ 'commit', 'rollback', 'orphan' ]) {
      const begun = producer.beginTransaction();
      await producer.send(message(topic, body), begun);
      if (body === 'commit') await begun.commit();
      if (body === 'rollback') await begun.rollback();
    }
    const taken = bodies(await take(consumer, 2, { seconds: 30 })).sort();
    check(taken.join() === 'commit,orphan' && asked.join() === 'orphan', [ taken, asked ]);
  }));
  return 'committed, rolled back, orphan committed when asked';
}

async function tagFilter() {
  const topic = name('tags');
  await sending(topic, {}, producer => receiving(topic, { filter: 'a || c' }, async consumer => {
    for (const tag of [ 'a', 'b', 'c' ]) await producer.send(message(topic, tag, { tag }));
    const taken = bodies(await take(consumer, 2, { seconds: 6 })).sort();
    check(taken.join() === 'a,c', taken);
  }));
  return 'a || c';
}

async function sqlFilter() {
  const topic = name('sql');
  const filter = new FilterExpression('amount > 10 AND region IS NOT NULL', FilterType.SQL);
  await sending(topic, {}, producer => receiving(topic, { filter }, async consumer => {
    for (const [ amount, region ] of [[ 5, 'eu' ], [ 15, 'eu' ], [ 25, null ]]) {
      const properties = new Map([[ 'amount', String(amount) ]]);
      if (region) properties.set('region', region);
      await producer.send(message(topic, String(amount), { properties }));
    }
    const taken = bodies(await take(consumer, 2, { seconds: 6 }));
    check(taken.join() === '15', taken);
  }));
  return 'amount > 10 AND region IS NOT NULL';
}

async function refused(run, words) {
  let seen;
  try {
    await run();
  } catch (error) {
    seen = error;
  }
  check(seen, 'it was not refused');
  const text = `${seen.name}: ${seen.message}`;
  check(words.test(text), text);
  return text.slice(0, 100);
}

const sendOnce = (topic, sent, options = {}) => sending(topic, options, producer => producer.send(sent));

const unknownTopic = () => {
  const topic = name('unknown');
  return refused(() => sendOnce(topic, message(topic, 'x'), { endpoints: STRICT }), /topic route/);
};
const wrongType = () => {
  const later = message(NORMAL_TOPIC, 'x', { deliveryTimestamp: new Date(now() + 60000) });
  return refused(() => sendOnce(NORMAL_TOPIC, later, { endpoints: STRICT }), /type|40014/i);
};
const tooLarge = () => {
  const topic = name('large');
  return refused(() => sendOnce(topic, message(topic, Buffer.alloc(4 * 1024 * 1024 + 1, 'x'))), /large|exceed|size/i);
};
async function credentials() {
  const topic = name('credentials');
  const account = accessSecret => ({ endpoints: GUARDED, sessionCredentials: { accessKey: 'interop', accessSecret } });
  await sendOnce(topic, message(topic, 'x'), account('interop-secret'));
  return refused(() => sendOnce(topic, message(topic, 'x'), account('wrong')), /topic route/);
}
async function tls() {
  const topic = name('tls');
  await sendOnce(topic, message(topic, 'x'), { sslEnabled: true });
  return "verified against the server's certificate";
}

async function main() {
  // All at once: a push consumer takes up to a long poll to end.
  await Promise.all([
    [ 'normal', normal ], [ 'delay', delay ], [ 'fifo', fifo ], [ 'recall', recall ],
    [ 'redelivery', redelivery ], [ 'dead letter', deadLetter ], [ 'push', push ], [ 'push fifo', pushFifo ],
    [ 'transaction', transaction ], [ 'tag filter', tagFilter ], [ 'sql filter', sqlFilter ],
    [ 'unknown topic', unknownTopic ], [ 'wrong type', wrongType ], [ 'oversized body', tooLarge ],
    [ 'credentials', credentials ], [ 'tls', tls ], [ 'restart', restart ],
  ].map(([ feature, run ]) => report(feature, run)));
  process.exit(failed.length ? 1 : 0);
}

process.on('uncaughtException', error => {
  console.log(`client\tFAIL\tuncaught ${error.stack}`);
  process.exit(1);
});
main();
