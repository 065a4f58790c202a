package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	writers = 8
	readers = 6
	prefix  = "kill/"
	// requestLimit is longer than any answer should take: what runs into it hangs.
	requestLimit = 15 * time.Second
)

// counter is one key that one writer counts up, by compare-and-set, so that a write of unknown outcome can't undo a later one.
type counter struct {
	key       string
	acked     atomic.Int64
	attempted atomic.Int64
}

// workload is what runs while servers are killed, and what it saw.
type workload struct {
	counters []*counter
	acked    atomic.Int64
	unknown  atomic.Int64
	reads    atomic.Int64
	slowest  atomic.Int64 // the longest wait for an answer from a member that lived, in milliseconds
	lastAck  atomic.Int64 // unix milliseconds

	mu         sync.Mutex
	violations []string
}

func newWorkload() *workload {
	w := &workload{}
	for i := range writers {
		w.counters = append(w.counters, &counter{key: fmt.Sprintf("%s%02d", prefix, i)})
	}
	return w
}

func (w *workload) violate(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.violations) < 20 {
		w.violations = append(w.violations, fmt.Sprintf(format, args...))
	}
}

// session is a client that stays with one member, as a client that is not balanced does.
type session struct {
	*clientv3.Client
	member *member
}

// timed runs one request and notes how long a member that lived all the while took to answer it.
func (w *workload) timed(ctx context.Context, on *session, what string, request func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	start, life := time.Now(), on.member.lives.Load()
	err := request(limited)
	took := time.Since(start).Milliseconds()
	if ctx.Err() != nil || life%2 == 0 || on.member.lives.Load() != life {
		return err
	}
	for {
		longest := w.slowest.Load()
		if took <= longest || w.slowest.CompareAndSwap(longest, took) {
			break
		}
	}
	if limited.Err() != nil {
		w.violate("%s had no answer for %v", what, requestLimit)
	}
	return err
}

// write counts one key up until the context ends.
func (w *workload) write(ctx context.Context, client *session, c *counter) {
	var value, revision int64
	known := true
	for ctx.Err() == nil {
		if !known {
			if value, revision, known = w.learn(ctx, client, c); !known {
				pause(ctx)
				continue
			}
		}
		next := value + 1
		c.attempted.Store(next)
		var response *clientv3.TxnResponse
		err := w.timed(ctx, client, "a write", func(ctx context.Context) (err error) {
			response, err = client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(c.key), "=", revision)).
				Then(clientv3.OpPut(c.key, strconv.FormatInt(next, 10))).Commit()
			return err
		})
		switch {
		case err != nil:
			w.unknown.Add(1)
			known = false
			pause(ctx)
		case !response.Succeeded:
			known = false
		default:
			value, revision = next, response.Header.Revision
			c.acked.Store(next)
			w.acked.Add(1)
			w.lastAck.Store(time.Now().UnixMilli())
		}
	}
}

// learn reads where the counter stands.
func (w *workload) learn(ctx context.Context, client *session, c *counter) (value, revision int64, known bool) {
	acked := c.acked.Load()
	value, revision, err := w.read(ctx, client, c.key)
	if err != nil {
		return 0, 0, false
	}
	w.judge(c, value, acked)
	return value, revision, true
}

// watchReads reads random keys and judges what it gets.
func (w *workload) watchReads(ctx context.Context, client *session) {
	for ctx.Err() == nil {
		c := w.counters[rand.IntN(len(w.counters))]
		acked := c.acked.Load()
		value, _, err := w.read(ctx, client, c.key)
		if err != nil {
			pause(ctx)
			continue
		}
		w.reads.Add(1)
		w.judge(c, value, acked)
	}
}

func (w *workload) read(ctx context.Context, client *session, key string) (value, revision int64, err error) {
	var response *clientv3.GetResponse
	err = w.timed(ctx, client, "a read", func(ctx context.Context) (err error) {
		response, err = client.Get(ctx, key)
		return err
	})
	if err != nil || len(response.Kvs) == 0 {
		return 0, 0, err
	}
	value, err = strconv.ParseInt(string(response.Kvs[0].Value), 10, 64)
	return value, response.Kvs[0].ModRevision, err
}

// judge compares a linearizable read with what was acknowledged before it began.
func (w *workload) judge(c *counter, value, acked int64) {
	if value < acked {
		w.violate("stale read or lost write: %s is %d, but %d was acknowledged before the read", c.key, value, acked)
	}
	if attempted := c.attempted.Load(); value > attempted {
		w.violate("%s is %d, but only %d was ever written", c.key, value, attempted)
	}
}

// pause waits a moment after an error, so that a dead member is not asked in a tight loop.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

// observer follows the whole history by one watch that lives through every kill.
type observer struct {
	member   string
	endpoint string
	revision atomic.Int64
	events   atomic.Int64
	versions map[string]int64
	values   map[string]int64
}

// follow judges every event: revisions never fall, versions of a key rise by one, values never fall.
func (o *observer) follow(ctx context.Context, w *workload, client *clientv3.Client) {
	o.versions, o.values = map[string]int64{}, map[string]int64{}
	next := int64(1)
	for ctx.Err() == nil {
		for response := range client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(next)) {
			if err := response.Err(); err != nil {
				if err == rpctypes.ErrCompacted {
					w.violate("watch on %s: compacted, though nothing was", o.member)
				}
				break
			}
			for _, event := range response.Events {
				o.take(w, event)
			}
			if len(response.Events) > 0 {
				next = response.Header.Revision + 1
				o.revision.Store(response.Header.Revision)
			}
		}
		pause(ctx)
	}
}

func (o *observer) take(w *workload, event *clientv3.Event) {
	key := string(event.Kv.Key)
	o.events.Add(1)
	if event.Kv.Version != o.versions[key]+1 {
		w.violate("watch on %s: %s went from version %d to %d at revision %d", o.member, key, o.versions[key], event.Kv.Version, event.Kv.ModRevision)
	}
	o.versions[key] = event.Kv.Version
	value, _ := strconv.ParseInt(string(event.Kv.Value), 10, 64)
	if value < o.values[key] {
		w.violate("watch on %s: %s went from %d back to %d", o.member, key, o.values[key], value)
	}
	o.values[key] = value
}
