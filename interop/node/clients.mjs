// A script of assertions with the npm client `etcd3` against a running cluster.
//
// usage: node clients.mjs HOST:PORT[,HOST:PORT...]
import assert from "node:assert/strict";
import { once } from "node:events";
import { Etcd3, EtcdLeaseInvalidError, EtcdLockFailedError } from "etcd3";

const hosts = process.argv[2].split(",").map((endpoint) => `http://${endpoint}`);
const client = new Etcd3({ hosts });

const steps = {
  async "put and get"() {
    await client.put("js/one").value("1");
    assert.equal(await client.get("js/one").string(), "1");
    assert.equal(await client.get("js/never"), null);
    await client.put("js/one").value("");
    assert.equal(await client.get("js/one").string(), "");
  },

  async range() {
    await client.delete().prefix("js/r/");
    for (let i = 0; i < 10; i++) await client.put(`js/r/${i}`).value(String(9 - i));
    assert.deepEqual(await client.getAll().prefix("js/r/").limit(3).keys(), ["js/r/0", "js/r/1", "js/r/2"]);
    assert.deepEqual(await client.getAll().prefix("js/r/").sort("Value", "Ascend").limit(1).keys(), ["js/r/9"]);
    assert.equal(await client.getAll().prefix("js/r/").count(), 10);
    assert.equal((await client.delete().prefix("js/r/")).deleted, "10");
  },

  async transaction() {
    await client.delete().key("js/t");
    const create = () =>
      client.if("js/t", "Create", "==", 0).then(client.put("js/t").value("1")).else(client.get("js/t")).commit();
    assert.equal((await create()).succeeded, true);
    const second = await create();
    assert.equal(second.succeeded, false);
    assert.equal(second.responses[0].response_range.kvs[0].value.toString(), "1");
  },

  async "software transactional memory"() {
    await client.put("js/stm").value("0");
    const add = () =>
      client.stm({ retries: 20 }).transact(async (tx) => {
        await tx.put("js/stm").value(String((await tx.get("js/stm").number()) + 1));
      });
    await Promise.all([add(), add(), add(), add()]);
    assert.equal(await client.get("js/stm").number(), 4);
  },

  async watch() {
    const watcher = await client.watch().prefix("js/w/").create();
    const put = once(watcher, "put");
    await client.put("js/w/a").value("1");
    const [kv] = await put;
    assert.equal(kv.value.toString(), "1");
    const gone = once(watcher, "delete");
    await client.delete().key("js/w/a");
    assert.equal((await gone)[0].key.toString(), "js/w/a");
    await watcher.cancel();
  },

  async "watch from the past"() {
    const first = await client.put("js/past").value("0");
    for (let i = 1; i < 20; i++) await client.put("js/past").value(String(i));
    const watcher = await client.watch().key("js/past").startRevision(first.header.revision).create();
    const seen = [];
    await new Promise((resolve) =>
      watcher.on("put", (kv) => {
        if (seen.push(kv.value.toString()) === 20) resolve();
      }),
    );
    assert.deepEqual(seen, Array.from({ length: 20 }, (_, i) => String(i)));
    await watcher.cancel();
  },

  async lease() {
    const lease = client.lease(5);
    await lease.put("js/l").value("x");
    const id = await lease.grant();
    const { TTL, keys } = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
    assert.ok(Number(TTL) <= 5 && Number(TTL) >= 3);
    assert.equal(keys[0].toString(), "js/l");
    await lease.keepaliveOnce();
    await lease.revoke();
    assert.equal(await client.get("js/l"), null);
    await assert.rejects(lease.keepaliveOnce(), EtcdLeaseInvalidError);
  },

  async lock() {
    const held = client.lock("js/lock").ttl(10);
    await held.acquire();
    await assert.rejects(client.lock("js/lock").ttl(10).acquire(), EtcdLockFailedError);
    await held.release();
    await client.lock("js/lock").ttl(10).do(async () => {});
  },

  async election() {
    const campaign = client.election("js/election", 5).campaign("me");
    await once(campaign, "elected");
    assert.equal(await client.election("js/election").leader(), "me");
    await campaign.resign();
  },

  async compaction() {
    const first = await client.put("js/c").value("1");
    const second = await client.put("js/c").value("2");
    await client.kv.compact({ revision: second.header.revision });
    await assert.rejects(client.get("js/c").revision(first.header.revision), /required revision has been compacted/);
    assert.equal(await client.get("js/c").revision(second.header.revision).string(), "2");
  },

  async status() {
    const status = await client.maintenance.status();
    assert.match(status.version, /^3\./);
    const { members } = await client.cluster.memberList({});
    assert.ok(members.length >= 1);
  },
};

let failed = 0;
for (const [name, run] of Object.entries(steps)) {
  try {
    await run();
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}: ${error.stack ?? error}`);
  }
}
client.close();
console.log(`node: ${Object.keys(steps).length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
