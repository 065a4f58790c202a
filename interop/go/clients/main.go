// Command clients runs a script of assertions with etcd's own Go client against a running cluster.
//
// usage: clients ENDPOINT[,ENDPOINT...]
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

// step is one named part of the script.
type step struct {
	name string
	run  func(context.Context, *clientv3.Client) error
}

var steps = []step{
	{"put and get", putAndGet},
	{"previous value", previousValue},
	{"range, limit, sort, count", ranges},
	{"stream of a large range", rangeStream},
	{"old revision", oldRevision},
	{"delete", deletes},
	{"transaction", transaction},
	{"nested transaction", nestedTransaction},
	{"errors are etcd's", errorsAreEtcds},
	{"watch", watch},
	{"watch from the past with previous values", watchFromThePast},
	{"watch progress", watchProgress},
	{"compaction", compaction},
	{"lease", lease},
	{"lease runs out", leaseRunsOut},
	{"lease keep-alive", leaseKeepAlive},
	{"mutex and election", mutexAndElection},
	{"software transactional memory", softwareTransactionalMemory},
	{"status, members, hash", maintenance},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: clients ENDPOINT[,ENDPOINT...]")
		os.Exit(2)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(os.Args[1], ","), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer client.Close()
	failed := 0
	for _, s := range steps {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		if err := s.run(ctx, client); err != nil {
			failed++
			fmt.Printf("FAILED %s: %v\n", s.name, err)
		}
		cancel()
	}
	fmt.Printf("go: %d passed, %d failed\n", len(steps)-failed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

// expect says what differs, if anything does.
func expect[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

func putAndGet(ctx context.Context, c *clientv3.Client) error {
	put, err := c.Put(ctx, "go/one", "1")
	if err != nil {
		return err
	}
	for _, opts := range [][]clientv3.OpOption{nil, {clientv3.WithSerializable(), clientv3.WithRev(put.Header.Revision)}} {
		got, err := c.Get(ctx, "go/one", opts...)
		if err != nil {
			return err
		}
		kv := got.Kvs[0]
		if err := errors.Join(expect("value", string(kv.Value), "1"), expect("mod", kv.ModRevision, put.Header.Revision), expect("count", got.Count, 1)); err != nil {
			return err
		}
	}
	empty, err := c.Put(ctx, "go/empty", "")
	if err != nil {
		return err
	}
	got, err := c.Get(ctx, "go/empty")
	if err != nil {
		return err
	}
	return errors.Join(expect("an empty value is a value", len(got.Kvs), 1), expect("revision", got.Kvs[0].ModRevision, empty.Header.Revision))
}

func previousValue(ctx context.Context, c *clientv3.Client) error {
	if _, err := c.Put(ctx, "go/prev", "old"); err != nil {
		return err
	}
	put, err := c.Put(ctx, "go/prev", "new", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	if err := expect("previous", string(put.PrevKv.Value), "old"); err != nil {
		return err
	}
	got, err := c.Get(ctx, "go/prev")
	if err != nil {
		return err
	}
	return expect("version", got.Kvs[0].Version >= 2, true)
}

func ranges(ctx context.Context, c *clientv3.Client) error {
	if _, err := c.Delete(ctx, "go/r/", clientv3.WithPrefix()); err != nil {
		return err
	}
	for i := range 10 {
		if _, err := c.Put(ctx, fmt.Sprintf("go/r/%d", i), fmt.Sprint(9-i)); err != nil {
			return err
		}
	}
	limited, err := c.Get(ctx, "go/r/", clientv3.WithPrefix(), clientv3.WithLimit(3))
	if err != nil {
		return err
	}
	byValue, err := c.Get(ctx, "go/r/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend), clientv3.WithLimit(1))
	if err != nil {
		return err
	}
	counted, err := c.Get(ctx, "go/r/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	keys, err := c.Get(ctx, "go/r/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	from, err := c.Get(ctx, "go/r/7", clientv3.WithRange("go/r/9"))
	if err != nil {
		return err
	}
	return errors.Join(
		expect("limit", len(limited.Kvs), 3), expect("more", limited.More, true), expect("count", limited.Count, 10),
		expect("sorted by value", string(byValue.Kvs[0].Key), "go/r/9"),
		expect("count only", counted.Count, 10), expect("count only has no keys", len(counted.Kvs), 0),
		expect("keys only", len(keys.Kvs), 10), expect("keys only has no value", len(keys.Kvs[0].Value), 0),
		expect("half open", len(from.Kvs), 2))
}

func rangeStream(ctx context.Context, c *clientv3.Client) error {
	value := strings.Repeat("v", 4096)
	for i := range 300 {
		if _, err := c.Put(ctx, fmt.Sprintf("go/s/%03d", i), value); err != nil {
			return err
		}
	}
	stream, err := c.GetStream(ctx, "go/s/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	whole, err := clientv3.GetStreamToGetResponse(stream)
	if err != nil {
		return err
	}
	return errors.Join(expect("keys", len(whole.Kvs), 300), expect("count", whole.Count, 300), expect("last", string(whole.Kvs[299].Key), "go/s/299"))
}

func oldRevision(ctx context.Context, c *clientv3.Client) error {
	first, err := c.Put(ctx, "go/old", "a")
	if err != nil {
		return err
	}
	if _, err := c.Put(ctx, "go/old", "b"); err != nil {
		return err
	}
	got, err := c.Get(ctx, "go/old", clientv3.WithRev(first.Header.Revision))
	if err != nil {
		return err
	}
	return errors.Join(expect("value then", string(got.Kvs[0].Value), "a"), expect("header is of now", got.Header.Revision > first.Header.Revision, true))
}

func deletes(ctx context.Context, c *clientv3.Client) error {
	for _, key := range []string{"go/d/b", "go/d/a"} {
		if _, err := c.Put(ctx, key, "x"); err != nil {
			return err
		}
	}
	deleted, err := c.Delete(ctx, "go/d/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	nothing, err := c.Delete(ctx, "go/d/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	return errors.Join(expect("deleted", deleted.Deleted, 2), expect("in key order", string(deleted.PrevKvs[0].Key), "go/d/a"),
		expect("nothing deleted", nothing.Deleted, 0), expect("and no revision spent", nothing.Header.Revision, deleted.Header.Revision))
}

func transaction(ctx context.Context, c *clientv3.Client) error {
	if _, err := c.Delete(ctx, "go/t", clientv3.WithPrefix()); err != nil {
		return err
	}
	create := func() (*clientv3.TxnResponse, error) {
		return c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision("go/t"), "=", 0)).
			Then(clientv3.OpPut("go/t", "1"), clientv3.OpPut("go/t2", "1")).Else(clientv3.OpGet("go/t")).Commit()
	}
	first, err := create()
	if err != nil {
		return err
	}
	second, err := create()
	if err != nil {
		return err
	}
	got, err := c.Get(ctx, "go/t", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	return errors.Join(expect("first", first.Succeeded, true), expect("second", second.Succeeded, false),
		expect("else branch", string(second.Responses[0].GetResponseRange().Kvs[0].Value), "1"),
		expect("one revision for both", got.Kvs[0].ModRevision, got.Kvs[1].ModRevision))
}

func nestedTransaction(ctx context.Context, c *clientv3.Client) error {
	if _, err := c.Delete(ctx, "go/n", clientv3.WithPrefix()); err != nil {
		return err
	}
	inner := clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Value("go/n"), "=", "outer")}, []clientv3.Op{clientv3.OpPut("go/n2", "inner")}, nil)
	done, err := c.Txn(ctx).Then(clientv3.OpPut("go/n", "outer"), inner).Commit()
	if err != nil {
		return err
	}
	after, err := c.Txn(ctx).Then(clientv3.OpPut("go/n3", "1"), clientv3.OpGet("go/n3")).Commit()
	if err != nil {
		return err
	}
	return errors.Join(expect("all compares are decided before any write", done.Responses[1].GetResponseTxn().Succeeded, false),
		expect("reads see earlier writes", len(after.Responses[1].GetResponseRange().Kvs), 1))
}

func errorsAreEtcds(ctx context.Context, c *clientv3.Client) error {
	_, future := c.Get(ctx, "go/one", clientv3.WithRev(1<<40))
	_, noLease := c.Put(ctx, "go/e", "x", clientv3.WithLease(987654321))
	_, noKey := c.Put(ctx, "go/never/was", "", clientv3.WithIgnoreValue())
	_, twice := c.Txn(ctx).Then(clientv3.OpPut("go/e", "1"), clientv3.OpPut("go/e", "2")).Commit()
	_, large := c.Put(ctx, "go/e", strings.Repeat("x", 1800*1024))
	_, unknown := c.Revoke(ctx, 987654321)
	many := make([]clientv3.Op, 129)
	for i := range many {
		many[i] = clientv3.OpGet("go/one")
	}
	_, tooMany := c.Txn(ctx).Then(many...).Commit()
	return errors.Join(is("future", future, rpctypes.ErrFutureRev), is("lease", noLease, rpctypes.ErrLeaseNotFound), is("key", noKey, rpctypes.ErrKeyNotFound),
		is("duplicate", twice, rpctypes.ErrDuplicateKey), is("large", large, rpctypes.ErrRequestTooLarge), is("revoke", unknown, rpctypes.ErrLeaseNotFound),
		is("too many", tooMany, rpctypes.ErrTooManyOps))
}

func is(what string, got, want error) error {
	if !errors.Is(got, want) {
		return fmt.Errorf("%s: got error %v, want %v", what, got, want)
	}
	return nil
}

func watch(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.Watch(ctx, "go/w/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if created := <-events; !created.Created {
		return fmt.Errorf("first response is not the creation: %+v", created)
	}
	if _, err := c.Put(ctx, "go/w/a", "1"); err != nil {
		return err
	}
	if _, err := c.Delete(ctx, "go/w/a"); err != nil {
		return err
	}
	var seen []*clientv3.Event
	for len(seen) < 2 {
		response, open := <-events
		if !open {
			return errors.New("the watch ended")
		}
		seen = append(seen, response.Events...)
	}
	return errors.Join(expect("create", seen[0].IsCreate(), true), expect("delete", seen[1].Type, clientv3.EventTypeDelete),
		expect("no value", len(seen[1].Kv.Value), 0), expect("order", seen[0].Kv.ModRevision < seen[1].Kv.ModRevision, true))
}

func watchFromThePast(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first, err := c.Put(ctx, "go/p", "0")
	if err != nil {
		return err
	}
	for i := 1; i < 50; i++ {
		if _, err := c.Put(ctx, "go/p", fmt.Sprint(i)); err != nil {
			return err
		}
	}
	next := 0
	for response := range c.Watch(ctx, "go/p", clientv3.WithRev(first.Header.Revision), clientv3.WithPrevKV()) {
		for _, event := range response.Events {
			if err := expect("value in order", string(event.Kv.Value), fmt.Sprint(next)); err != nil {
				return err
			}
			if next > 0 && (event.PrevKv == nil || string(event.PrevKv.Value) != fmt.Sprint(next-1)) {
				return fmt.Errorf("previous value of event %d: %v", next, event.PrevKv)
			}
			next++
		}
		if next == 50 {
			return nil
		}
	}
	return fmt.Errorf("the watch ended after %d events", next)
}

func watchProgress(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	put, err := c.Put(ctx, "go/elsewhere", "x")
	if err != nil {
		return err
	}
	events := c.Watch(ctx, "go/nobody/writes/here", clientv3.WithCreatedNotify())
	<-events
	asked := time.NewTicker(100 * time.Millisecond)
	defer asked.Stop()
	for {
		select {
		case response := <-events:
			if response.IsProgressNotify() && response.Header.Revision >= put.Header.Revision {
				return nil
			}
		case <-asked.C:
			if err := c.RequestProgress(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return errors.New("no answer to a progress request")
		}
	}
}

func compaction(ctx context.Context, c *clientv3.Client) error {
	first, err := c.Put(ctx, "go/c", "1")
	if err != nil {
		return err
	}
	second, err := c.Put(ctx, "go/c", "2")
	if err != nil {
		return err
	}
	if _, err := c.Compact(ctx, second.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	_, below := c.Get(ctx, "go/c", clientv3.WithRev(first.Header.Revision))
	_, at := c.Get(ctx, "go/c", clientv3.WithRev(second.Header.Revision))
	_, again := c.Compact(ctx, second.Header.Revision)
	_, ahead := c.Compact(ctx, second.Header.Revision+1000000)
	watched := <-c.Watch(ctx, "go/c", clientv3.WithRev(first.Header.Revision))
	return errors.Join(is("below", below, rpctypes.ErrCompacted), expect("at", at, nil), is("again", again, rpctypes.ErrCompacted),
		is("ahead", ahead, rpctypes.ErrFutureRev), is("watch", watched.Err(), rpctypes.ErrCompacted), expect("compact revision", watched.CompactRevision, second.Header.Revision))
}

func lease(ctx context.Context, c *clientv3.Client) error {
	granted, err := c.Grant(ctx, 60)
	if err != nil {
		return err
	}
	for _, key := range []string{"go/l/a", "go/l/b"} {
		if _, err := c.Put(ctx, key, "x", clientv3.WithLease(granted.ID)); err != nil {
			return err
		}
	}
	left, err := c.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	all, err := c.Leases(ctx)
	if err != nil {
		return err
	}
	if _, err := c.Revoke(ctx, granted.ID); err != nil {
		return err
	}
	gone, err := c.Get(ctx, "go/l/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	unknown, err := c.TimeToLive(ctx, granted.ID)
	if err != nil {
		return err
	}
	return errors.Join(expect("granted", left.GrantedTTL, 60), expect("left", left.TTL > 50 && left.TTL <= 60, true), expect("keys", len(left.Keys), 2),
		expect("listed", len(all.Leases) > 0, true), expect("keys went with it", len(gone.Kvs), 0), expect("unknown", unknown.TTL, -1))
}

func leaseRunsOut(ctx context.Context, c *clientv3.Client) error {
	granted, err := c.Grant(ctx, 2)
	if err != nil {
		return err
	}
	put, err := c.Put(ctx, "go/short", "x", clientv3.WithLease(granted.ID))
	if err != nil {
		return err
	}
	start := time.Now()
	for response := range c.Watch(ctx, "go/short", clientv3.WithRev(put.Header.Revision+1)) {
		for _, event := range response.Events {
			waited := time.Since(start)
			return errors.Join(expect("deleted", event.Type, clientv3.EventTypeDelete), expect("not early", waited > 1800*time.Millisecond, true), expect("not late", waited < 6*time.Second, true))
		}
	}
	return errors.New("the watch ended")
}

func leaseKeepAlive(ctx context.Context, c *clientv3.Client) error {
	granted, err := c.Grant(ctx, 2)
	if err != nil {
		return err
	}
	alive, cancel := context.WithCancel(ctx)
	defer cancel()
	answers, err := c.KeepAlive(alive, granted.ID)
	if err != nil {
		return err
	}
	for range 5 {
		answer, open := <-answers
		if !open {
			return errors.New("the keep-alive ended")
		}
		if err := expect("ttl", answer.TTL, 2); err != nil {
			return err
		}
	}
	if _, err := c.Revoke(ctx, granted.ID); err != nil {
		return err
	}
	_, gone := c.KeepAliveOnce(ctx, granted.ID)
	return is("revoked", gone, rpctypes.ErrLeaseNotFound)
}

func mutexAndElection(ctx context.Context, c *clientv3.Client) error {
	session, err := concurrency.NewSession(c, concurrency.WithTTL(5))
	if err != nil {
		return err
	}
	defer session.Close()
	other, err := concurrency.NewSession(c, concurrency.WithTTL(5))
	if err != nil {
		return err
	}
	defer other.Close()
	held, wanted := concurrency.NewMutex(session, "go/lock"), concurrency.NewMutex(other, "go/lock")
	if err := held.Lock(ctx); err != nil {
		return err
	}
	if err := is("held", wanted.TryLock(ctx), concurrency.ErrLocked); err != nil {
		return err
	}
	if err := errors.Join(held.Unlock(ctx), wanted.Lock(ctx), wanted.Unlock(ctx)); err != nil {
		return err
	}
	election := concurrency.NewElection(session, "go/election")
	if err := election.Campaign(ctx, "me"); err != nil {
		return err
	}
	leader, err := election.Leader(ctx)
	if err != nil {
		return err
	}
	return errors.Join(expect("leader", string(leader.Kvs[0].Value), "me"), election.Resign(ctx))
}

func softwareTransactionalMemory(ctx context.Context, c *clientv3.Client) error {
	if _, err := c.Put(ctx, "go/stm", ""); err != nil {
		return err
	}
	failures := make(chan error, 4)
	for range 4 {
		go func() {
			var err error
			for i := 0; i < 5 && err == nil; i++ {
				_, err = concurrency.NewSTM(c, func(s concurrency.STM) error {
					s.Put("go/stm", s.Get("go/stm")+"x")
					return nil
				}, concurrency.WithIsolation(concurrency.SerializableSnapshot))
			}
			failures <- err
		}()
	}
	for range 4 {
		if err := <-failures; err != nil {
			return err
		}
	}
	got, err := c.Get(ctx, "go/stm")
	if err != nil {
		return err
	}
	return expect("no update lost", string(got.Kvs[0].Value), strings.Repeat("x", 20))
}

func maintenance(ctx context.Context, c *clientv3.Client) error {
	members, err := c.MemberList(ctx)
	if err != nil {
		return err
	}
	ids := map[uint64]bool{}
	for _, member := range members.Members {
		ids[member.ID] = true
	}
	for _, endpoint := range c.Endpoints() {
		status, err := c.Status(ctx, endpoint)
		if err != nil {
			return err
		}
		if err := errors.Join(expect("a member answers", ids[status.Header.MemberId], true), expect("a member leads", ids[status.Leader], true), expect("version", strings.HasPrefix(status.Version, "3."), true)); err != nil {
			return err
		}
	}
	snapshot, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer snapshot.Close()
	var content bytes.Buffer
	if _, err := content.ReadFrom(snapshot); err != nil {
		return err
	}
	return expect("a snapshot has content", content.Len() > 32, true)
}
