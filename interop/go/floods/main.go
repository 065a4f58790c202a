// Floods: what a client can do to the others. Each flood runs against a member of its own while a bystander puts and gets, and the table tells what both paid:
// memory, threads and descriptors of the member at the peak and ten seconds after the flood's clients have gone, the bystander's latencies and errors, and
// how much of the flood was answered.
//
// usage: floods -server quorate=PATH -server etcd=PATH [-only NAME] [-seconds N] [-port N] [-dir DIR]
//
// It judges nothing: docs/limits.md holds the table.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// flood is a load: prepare fills the member, run loads it until the context ends.
type flood struct {
	name    string
	prepare func(context.Context, string) error
	run     func(context.Context, string, *tally)
}

var (
	servers serverList
	only    = flag.String("only", "", "the flood to run; all by default")
	seconds = flag.Int("seconds", 10, "how long a flood lasts")
	port    = flag.Int("port", 25100, "the first of three ports to use")
	dir     = flag.String("dir", os.TempDir(), "where members keep their data")
)

var floods = []flood{
	{"nothing", nothing, idle},
	{"counts over 100,000 keys, 64 at once", manyKeys, counts},
	{"transactions of 60 such counts, 4 at once", manyKeys, countTransactions},
	{"puts after 127 compares over such ranges, 2 at once", manyKeys, compareTransactions},
	{"1,000 hashes, given up after 5 s", manyKeys, hashes},
	{"1,000 snapshots that nobody reads", largeValues, snapshots},
	{"puts on one connection, taken back at once", nothing, resets},
	{"94 MB ranges, 5 at once", largeValues, largeRanges},
	{"1,500 watches of a 1 MB key with the value before", nothing, watches},
	{"2,000 clients that put 100 KB", nothing, largePuts},
}

func main() {
	flag.Var(&servers, "server", "NAME=PATH of a server to flood; repeat it")
	flag.Parse()
	fmt.Println("| Flood | Server | Memory MB, idle/peak/after | Threads | Descriptors | Bystander p50/p99/max ms | Refused | Flood: answered/failed |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, flood := range floods {
		if !strings.Contains(flood.name, *only) {
			continue
		}
		for _, server := range servers {
			row, err := one(flood, server)
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s, %s: %v\n", flood.name, server.name, err)
				os.Exit(1)
			}
			fmt.Println(row)
		}
	}
}

// one floods one server.
func one(flood flood, server server) (string, error) {
	member, err := start(server)
	if err != nil {
		return "", err
	}
	defer member.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := flood.prepare(ctx, member.endpoint); err != nil {
		return "", fmt.Errorf("prepare: %w", err)
	}
	time.Sleep(time.Second)
	idle := member.usage()
	watched := member.watch()
	during, end := context.WithTimeout(ctx, time.Duration(*seconds)*time.Second)
	defer end()
	bystander := stand(during, member.endpoint)
	var tally tally
	flood.run(during, member.endpoint, &tally)
	<-bystander.done
	peak := watched()
	time.Sleep(10 * time.Second)
	after := member.usage()
	row := fmt.Sprintf("| %s | %s | %d/%d/%d | %d/%d/%d | %d/%d/%d | %s | %d | %d/%d |", flood.name, server.name,
		idle.megabytes, peak.megabytes, after.megabytes, idle.threads, peak.threads, after.threads,
		idle.descriptors, peak.descriptors, after.descriptors, bystander.latencies(), bystander.failed, tally.answered.Load(), tally.failed.Load())
	return row, nil
}
