// Command kill kills three servers again and again under load from real clients and judges what the clients saw.
//
// It kills the leader, a follower, or all three at once, always as kill -9 does, and starts them again. No acknowledged write may be
// lost, no linearizable read stale, no watch event lost, doubled or out of order; writes must resume after each kill, and no request may
// wait longer than -wait for its answer.
//
// usage: kill -binary SERVER -dir DIR [-duration 2m] [-wait 2.5s]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// resumeLimit bounds how long after a kill the first write is acknowledged again. Three starts at once count the clients' own
// reconnecting, which grows up to a few seconds.
const resumeLimit = 20 * time.Second

type options struct {
	binary   string
	dir      string
	port     int
	duration time.Duration
	wait     time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "", "the server, which takes etcd's flags")
	flag.StringVar(&o.dir, "dir", "", "where the members keep their data and logs")
	flag.IntVar(&o.port, "port", 24790, "the first of six ports")
	flag.DurationVar(&o.duration, "duration", 2*time.Minute, "how long to go on killing")
	flag.DurationVar(&o.wait, "wait", 2500*time.Millisecond, "the longest that a request may wait for an answer")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "kill:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	c := newCluster(o.binary, o.dir, o.port)
	if err := c.startAll(); err != nil {
		return err
	}
	defer c.killAll()
	admin, err := connect(c.endpoints()...)
	if err != nil {
		return err
	}
	defer admin.Close()
	w := newWorkload()
	loadCtx, stopLoad := context.WithCancel(context.Background())
	watchCtx, stopWatch := context.WithCancel(context.Background())
	defer stopWatch()
	defer stopLoad()
	var load sync.WaitGroup
	observers, err := begin(loadCtx, watchCtx, &load, c, w)
	if err != nil {
		return err
	}
	kills, slowestResume := killLoop(c, w, admin, o.duration)
	stopLoad()
	load.Wait()
	settle(c, w, admin, observers)
	return report(w, observers, o, kills, slowestResume)
}

// begin starts writers, readers and observers, spread over the members.
func begin(loadCtx, watchCtx context.Context, load *sync.WaitGroup, c *cluster, w *workload) ([]*observer, error) {
	for i := range writers + readers {
		connected, err := connect(c.members[i%3].client)
		if err != nil {
			return nil, err
		}
		client := &session{Client: connected, member: c.members[i%3]}
		load.Add(1)
		go func() {
			defer load.Done()
			defer client.Close()
			if i < writers {
				w.write(loadCtx, client, w.counters[i])
			} else {
				w.watchReads(loadCtx, client)
			}
		}()
	}
	var observers []*observer
	for _, m := range c.members {
		client, err := connect(m.client)
		if err != nil {
			return nil, err
		}
		o := &observer{member: m.name, endpoint: m.client}
		observers = append(observers, o)
		go func() {
			defer client.Close()
			o.follow(watchCtx, w, client)
		}()
	}
	return observers, nil
}

// killLoop kills in turn the leader, a follower, the leader, all three, and measures how soon writes resume.
func killLoop(c *cluster, w *workload, admin *clientv3.Client, duration time.Duration) (kills int, slowest time.Duration) {
	if _, resumed := awaitWrite(w, time.Now()); !resumed {
		w.violate("no write was acknowledged at the start")
		return 0, 0
	}
	end := time.Now().Add(duration)
	for round := 0; time.Now().Before(end); round++ {
		victims := choose(c, admin, round)
		for _, m := range victims {
			m.strike()
		}
		for _, m := range victims {
			m.kill()
		}
		kills++
		killed := time.Now()
		if len(victims) == 3 {
			restart(c, w, victims)
		}
		took, resumed := awaitWrite(w, killed)
		if !resumed {
			w.violate("no write was acknowledged for %v after kill %d (%d members)", resumeLimit, kills, len(victims))
			return kills, took
		}
		slowest = max(slowest, took)
		if len(victims) < 3 {
			restart(c, w, victims)
		}
		time.Sleep(1500 * time.Millisecond)
	}
	return kills, slowest
}

func choose(c *cluster, admin *clientv3.Client, round int) []*member {
	if round%4 == 3 {
		return c.members
	}
	leader := c.leader(admin)
	for _, m := range c.members {
		if leader == nil || (m == leader) == (round%2 == 0) {
			return []*member{m}
		}
	}
	return c.members[:1]
}

func restart(c *cluster, w *workload, victims []*member) {
	for _, m := range victims {
		if err := c.start(m); err != nil {
			w.violate("start %s: %v", m.name, err)
		}
	}
}

// awaitWrite waits until a write was acknowledged after since.
func awaitWrite(w *workload, since time.Time) (time.Duration, bool) {
	for time.Since(since) < resumeLimit {
		if w.lastAck.Load() > since.UnixMilli() {
			return time.Since(since), true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return resumeLimit, false
}

// settle compares the final state of all members with what was acknowledged, and waits until the observers have seen it all.
func settle(c *cluster, w *workload, admin *clientv3.Client, observers []*observer) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	final, err := admin.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		w.violate("read the final state: %v", err)
		return
	}
	last := int64(0)
	for i, kv := range final.Kvs {
		var value int64
		fmt.Sscan(string(kv.Value), &value)
		w.judge(w.counters[i], value, w.counters[i].acked.Load())
		last = max(last, kv.ModRevision)
	}
	if len(final.Kvs) != writers {
		w.violate("%d keys at the end, not %d", len(final.Kvs), writers)
	}
	for _, o := range observers {
		for o.revision.Load() < last && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		if o.revision.Load() < last {
			w.violate("watch on %s saw revision %d, not %d; %s", o.member, o.revision.Load(), last, secondOpinion(o))
		}
	}
	hashCtx, cancelHash := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancelHash()
	compareHashes(hashCtx, c, w, admin, final.Header.Revision)
}

// secondOpinion tells what a new watch and a plain read of the same member see, so that a silent watch can be told from a silent member.
func secondOpinion(o *observer) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	client, err := connect(o.endpoint)
	if err != nil {
		return err.Error()
	}
	defer client.Close()
	var said []string
	if read, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithSerializable()); err != nil {
		said = append(said, fmt.Sprintf("a read fails: %v", err))
	} else {
		said = append(said, fmt.Sprintf("a read is at revision %d", read.Header.Revision))
	}
	response, open := <-client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(o.revision.Load()+1))
	return strings.Join(append(said, fmt.Sprintf("a new watch gets %d events (open %v, error %v)", len(response.Events), open, response.Err())), ", ")
}

func compareHashes(ctx context.Context, c *cluster, w *workload, admin *clientv3.Client, revision int64) {
	hashes := map[uint32][]string{}
	for _, m := range c.members {
		response, err := admin.HashKV(ctx, m.client, revision)
		if err != nil {
			w.violate("hash of %s: %v", m.name, err)
			continue
		}
		hashes[response.Hash] = append(hashes[response.Hash], m.name)
	}
	if len(hashes) != 1 {
		w.violate("members disagree at revision %d: %v", revision, hashes)
	}
}

func report(w *workload, observers []*observer, o options, kills int, slowestResume time.Duration) error {
	if waited := time.Duration(w.slowest.Load()) * time.Millisecond; waited > o.wait {
		w.violate("a request waited %v for its answer, more than %v", waited, o.wait)
	}
	var events int64
	for _, seen := range observers {
		events += seen.events.Load()
	}
	fmt.Printf("kills=%d acked=%d unknown=%d reads=%d events=%d slowest_resume_ms=%d slowest_request_ms=%d violations=%d\n",
		kills, w.acked.Load(), w.unknown.Load(), w.reads.Load(), events, slowestResume.Milliseconds(), w.slowest.Load(), len(w.violations))
	if len(w.violations) > 0 {
		return fmt.Errorf("%s", strings.Join(w.violations, "\n"))
	}
	return nil
}
