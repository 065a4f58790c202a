package main

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// The shortest time that a client of Kubernetes' kind gives a lease.
	ttlSeconds = 5
	// More than two times to live: a lease that is not kept has gone by then.
	keptFor = 12 * time.Second
)

// grant makes leases, and gives their ids.
func grant(ctx context.Context, client *clientv3.Client, count int, ttl int64) ([]clientv3.LeaseID, error) {
	ids := make([]clientv3.LeaseID, count)
	err := each(count, 256, func(number int) error {
		lease, err := client.Grant(ctx, ttl)
		if err == nil {
			ids[number] = lease.ID
		}
		return err
	})
	return ids, err
}

func revoke(ctx context.Context, client *clientv3.Client, ids []clientv3.LeaseID) error {
	return each(len(ids), 256, func(number int) error {
		_, err := client.Revoke(ctx, ids[number])
		return err
	})
}

// keepLeases keeps leases alive as the client library does, and counts those that the member still knows afterwards.
func keepLeases(ctx context.Context, client *clientv3.Client) (int, int, string, error) {
	ids := make([]clientv3.LeaseID, *leases)
	err := each(*leases, 256, func(number int) error {
		lease, err := client.Grant(ctx, ttlSeconds)
		if err != nil {
			return err
		}
		ids[number] = lease.ID
		answers, err := client.KeepAlive(ctx, lease.ID)
		if err != nil {
			return err
		}
		go func() {
			for range answers {
			}
		}()
		return nil
	})
	if err != nil {
		return 0, *leases, "", err
	}
	time.Sleep(keptFor)
	left, err := client.Leases(ctx)
	if err != nil {
		return 0, *leases, "", err
	}
	kept := make(map[clientv3.LeaseID]bool, len(left.Leases))
	for _, lease := range left.Leases {
		kept[lease.ID] = true
	}
	count := 0
	for _, id := range ids {
		if kept[id] {
			count++
		}
	}
	return count, *leases, "", nil
}

// renewInARow renews leases over one stream without waiting for answers.
func renewInARow(ctx context.Context, client *clientv3.Client) (int, int, string, error) {
	ids, err := grant(ctx, client, 1000, 600)
	if err != nil {
		return 0, *renewals, "", err
	}
	stream, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return 0, *renewals, "", err
	}
	begin := time.Now()
	sent := make(chan error, 1)
	go func() {
		for number := range *renewals {
			if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(ids[number%len(ids)])}); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	count := 0
	for range *renewals {
		answer, err := stream.Recv()
		if err != nil {
			return count, *renewals, "", err
		}
		if answer.TTL > 0 {
			count++
		}
	}
	note := fmt.Sprintf(" (%.0f renewals/s)", float64(count)/time.Since(begin).Seconds())
	if err := <-sent; err != nil {
		return count, *renewals, note, err
	}
	return count, *renewals, note, revoke(ctx, client, ids)
}
