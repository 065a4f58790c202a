// Crowds: one client of a Kubernetes-sized program, with as many leases, watches and streams as such a program has. All of them must be served, none lost.
//
// usage: crowds [-endpoint HOST:PORT] [-leases N] [-watches N] [-streams N] [-renewals N]
//
// It prints a line for each crowd, and exits with 1 unless every crowd was served whole. Rates are told, not judged.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// crowd is a load and how many of it were served, of how many.
type crowd struct {
	name string
	run  func(context.Context, *clientv3.Client) (served, wanted int, note string, err error)
}

var (
	endpoint = flag.String("endpoint", "127.0.0.1:2379", "the member to load")
	leases   = flag.Int("leases", 20_000, "leases of 5 s that one client keeps alive")
	watches  = flag.Int("watches", 100_000, "watches of one client, one after another and all at once")
	streams  = flag.Int("streams", 20_000, "watch streams of one client, all at once")
	renewals = flag.Int("renewals", 400_000, "renewals on one stream, written as fast as they go")
)

func main() {
	flag.Parse()
	crowds := []crowd{
		{"leases kept alive", keepLeases},
		{"renewals in a row", renewInARow},
		{"watches created and canceled", createAndCancel},
		{"watches at once", watchAtOnce},
		{"streams at once", streamAtOnce},
	}
	failed := 0
	for _, crowd := range crowds {
		if err := one(crowd); err != nil {
			fmt.Printf("%s: %v\n", crowd.name, err)
			failed++
		}
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// one loads the member with one crowd, over a connection of its own.
func one(crowd crowd) error {
	// The members' words about lost connections would drown ours.
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	begin := time.Now()
	served, wanted, note, err := crowd.run(ctx, client)
	fmt.Printf("%s: %d of %d in %.1f s%s\n", crowd.name, served, wanted, time.Since(begin).Seconds(), note)
	if err == nil && served != wanted {
		err = errors.New("not all were served")
	}
	return err
}

// each calls do for 0 to count-1 from several goroutines, and gives the first error.
func each(count, goroutines int, do func(int) error) error {
	var wait sync.WaitGroup
	var once sync.Once
	var first error
	numbers := make(chan int)
	for range goroutines {
		wait.Go(func() {
			for number := range numbers {
				if err := do(number); err != nil {
					once.Do(func() { first = err })
				}
			}
		})
	}
	for number := range count {
		numbers <- number
	}
	close(numbers)
	wait.Wait()
	return first
}
