package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Keys that a crowd watches; each has as many watchers as another.
const keys = 1000

func key(number int) string {
	return fmt.Sprintf("/crowds/%d", number%keys)
}

// createAndCancel makes watches on one stream and cancels each at once.
func createAndCancel(ctx context.Context, client *clientv3.Client) (int, int, string, error) {
	var created atomic.Int64
	err := each(*watches, 256, func(number int) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		answer, open := <-client.Watch(ctx, key(number), clientv3.WithCreatedNotify())
		if !open || !answer.Created {
			return fmt.Errorf("watch %d was not created: %w", number, errors.Join(answer.Err(), ctx.Err()))
		}
		created.Add(1)
		return nil
	})
	return int(created.Load()), *watches, "", err
}

// watchAtOnce makes watches on one stream, then changes every key, and counts the events.
func watchAtOnce(ctx context.Context, client *clientv3.Client) (int, int, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var events atomic.Int64
	all := make(chan struct{})
	err := each(*watches, 256, func(number int) error {
		answers := client.Watch(ctx, key(number), clientv3.WithCreatedNotify())
		if answer, open := <-answers; !open || !answer.Created {
			return fmt.Errorf("watch %d was not created: %w", number, errors.Join(answer.Err(), ctx.Err()))
		}
		go func() {
			for answer := range answers {
				if events.Add(int64(len(answer.Events))) == int64(*watches) {
					close(all)
				}
			}
		}()
		return nil
	})
	if err != nil {
		return 0, *watches, "", err
	}
	begin := time.Now()
	if err := putAll(ctx, client); err != nil {
		return 0, *watches, "", err
	}
	select {
	case <-all:
	case <-time.After(time.Minute):
	}
	note := fmt.Sprintf(" (%.1f s from the puts to the last event)", time.Since(begin).Seconds())
	return int(events.Load()), *watches, note, nil
}

// streamAtOnce opens watch streams, all over one connection, with one watch on each.
func streamAtOnce(ctx context.Context, client *clientv3.Client) (int, int, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	service := pb.NewWatchClient(client.ActiveConnection())
	opened := make([]pb.Watch_WatchClient, *streams)
	err := each(*streams, 256, func(number int) error {
		stream, err := service.Watch(ctx)
		if err != nil {
			return err
		}
		opened[number] = stream
		create := &pb.WatchCreateRequest{Key: []byte(key(number))}
		return stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	})
	if err != nil {
		return 0, *streams, "", err
	}
	if err := each(*streams, 256, func(number int) error { return expect(opened[number], true) }); err != nil {
		return 0, *streams, "", err
	}
	if err := putAll(ctx, client); err != nil {
		return 0, *streams, "", err
	}
	var served atomic.Int64
	err = each(*streams, 256, func(number int) error {
		if err := expect(opened[number], false); err != nil {
			return err
		}
		served.Add(1)
		return nil
	})
	return int(served.Load()), *streams, "", err
}

// expect reads one answer of a stream: that a watch was created, or an event.
func expect(stream pb.Watch_WatchClient, created bool) error {
	answer, err := stream.Recv()
	if err == nil && (answer.Created != created || (len(answer.Events) == 0) != created) {
		err = fmt.Errorf("not what was expected: %v", answer)
	}
	return err
}

func putAll(ctx context.Context, client *clientv3.Client) error {
	return each(keys, 64, func(number int) error {
		_, err := client.Put(ctx, key(number), "x")
		return err
	})
}
