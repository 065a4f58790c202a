package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// tally counts what became of a flood's requests.
type tally struct{ answered, failed atomic.Int64 }

func (t *tally) note(err error) {
	if err == nil {
		t.answered.Add(1)
	} else {
		t.failed.Add(1)
	}
}

func nothing(context.Context, string) error { return nil }

func idle(ctx context.Context, _ string, _ *tally) { <-ctx.Done() }

// manyKeys puts 100,000 small keys.
func manyKeys(ctx context.Context, endpoint string) error {
	return fill(ctx, endpoint, 100_000, strings.Repeat("v", 32))
}

// largeValues puts 94 values of a megabyte.
func largeValues(ctx context.Context, endpoint string) error {
	return fill(ctx, endpoint, 94, strings.Repeat("v", 1_000_000))
}

func fill(ctx context.Context, endpoint string, count int, value string) error {
	client, err := connect(endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	var next atomic.Int64
	return together(min(count, 200), func(int) error {
		for {
			number := next.Add(1) - 1
			if number >= int64(count) {
				return nil
			}
			if _, err := client.Put(ctx, fmt.Sprintf("k%08d", number), value); err != nil {
				return err
			}
		}
	})
}

// together runs a function many times at once and gives the last error.
func together(count int, run func(int) error) error {
	var group sync.WaitGroup
	errs := make(chan error, count)
	for number := range count {
		group.Go(func() { errs <- run(number) })
	}
	group.Wait()
	close(errs)
	var last error
	for err := range errs {
		if err != nil {
			last = err
		}
	}
	return last
}

// flooded asks again and again, `each` at once on each of `clients` connections, until the context ends.
func flooded(ctx context.Context, endpoint string, clients, each int, tally *tally, ask func(context.Context, *clientv3.Client) error) {
	_ = together(clients, func(int) error {
		client, err := connect(endpoint)
		if err != nil {
			tally.note(err)
			return err
		}
		defer client.Close()
		return together(each, func(int) error {
			for ctx.Err() == nil {
				err := ask(ctx, client)
				if ctx.Err() == nil {
					tally.note(err)
				}
			}
			return nil
		})
	})
}

func counting() clientv3.Op {
	return clientv3.OpGet("k", clientv3.WithPrefix(), clientv3.WithCountOnly())
}

func counts(ctx context.Context, endpoint string, tally *tally) {
	flooded(ctx, endpoint, 8, 8, tally, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Do(ctx, counting())
		return err
	})
}

func countTransactions(ctx context.Context, endpoint string, tally *tally) {
	ops := make([]clientv3.Op, 60)
	for at := range ops {
		ops[at] = counting()
	}
	flooded(ctx, endpoint, 4, 1, tally, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Txn(ctx).Then(ops...).Commit()
		return err
	})
}

func compareTransactions(ctx context.Context, endpoint string, tally *tally) {
	compares := make([]clientv3.Cmp, 127)
	for at := range compares {
		compares[at] = clientv3.Compare(clientv3.Version("k"), ">", 0).WithPrefix()
	}
	flooded(ctx, endpoint, 2, 1, tally, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Txn(ctx).If(compares...).Then(clientv3.OpPut("compared", "1")).Commit()
		return err
	})
}

// hashes asks for a thousand hashes at once, on four connections, and gives them up.
func hashes(ctx context.Context, endpoint string, tally *tally) {
	_ = together(4, func(int) error {
		client, err := connect(endpoint)
		if err != nil {
			return err
		}
		defer client.Close()
		return together(250, func(int) error {
			asked, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			_, err := client.HashKV(asked, endpoint, 0)
			tally.note(err)
			return nil
		})
	})
	<-ctx.Done()
}

// snapshots opens a thousand snapshots with the smallest windows and reads none.
func snapshots(ctx context.Context, endpoint string, tally *tally) {
	_ = together(10, func(int) error {
		connection, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithInitialWindowSize(65_535))
		if err != nil {
			return err
		}
		defer connection.Close()
		return together(100, func(int) error {
			_, err := pb.NewMaintenanceClient(connection).Snapshot(ctx, &pb.SnapshotRequest{})
			tally.note(err)
			<-ctx.Done()
			return nil
		})
	})
}

// resets puts on one connection as fast as it can, and takes each put back at once.
func resets(ctx context.Context, endpoint string, tally *tally) {
	client, err := connect(endpoint)
	if err != nil {
		return
	}
	defer client.Close()
	value := strings.Repeat("v", 100)
	_ = together(200, func(number int) error {
		for ctx.Err() == nil {
			asked, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
			_, err := client.Put(asked, fmt.Sprintf("r%d", number), value)
			cancel()
			tally.note(err)
		}
		return nil
	})
}

func largeRanges(ctx context.Context, endpoint string, tally *tally) {
	flooded(ctx, endpoint, 5, 1, tally, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Get(ctx, "k", clientv3.WithPrefix())
		return err
	})
}

// watches has 1,500 watches on fifteen connections, a stream each, and changes the key twice a second.
func watches(ctx context.Context, endpoint string, tally *tally) {
	value := strings.Repeat("v", 1_000_000)
	go func() {
		client, err := connect(endpoint)
		if err != nil {
			return
		}
		defer client.Close()
		for ctx.Err() == nil {
			_, _ = client.Put(ctx, "large", value)
			time.Sleep(2 * time.Second)
		}
	}()
	_ = together(15, func(int) error {
		client, err := connect(endpoint)
		if err != nil {
			return err
		}
		defer client.Close()
		return together(100, func(number int) error {
			// A stream for each: streams are told apart by their metadata.
			own := metadata.AppendToOutgoingContext(ctx, "stream", fmt.Sprint(number))
			for response := range client.Watch(own, "large", clientv3.WithPrevKV()) {
				tally.answered.Add(int64(len(response.Events)))
			}
			return nil
		})
	})
}

// largePuts has 2,000 clients that put 100 KB each, with five seconds for each put.
func largePuts(ctx context.Context, endpoint string, tally *tally) {
	value := strings.Repeat("v", 100_000)
	_ = together(200, func(connection int) error {
		client, err := connect(endpoint)
		if err != nil {
			return err
		}
		defer client.Close()
		return together(10, func(number int) error {
			asked, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_, err := client.Put(asked, fmt.Sprintf("p%d-%d", connection, number), value)
			tally.note(err)
			return nil
		})
	})
	<-ctx.Done()
}
