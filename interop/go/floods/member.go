package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// server is a program that takes etcd's flags; quorate takes them behind a word.
type server struct{ name, path string }

type serverList []server

func (s *serverList) String() string { return "" }

func (s *serverList) Set(text string) error {
	name, path, found := strings.Cut(text, "=")
	if !found {
		return errors.New("not NAME=PATH")
	}
	*s = append(*s, server{name, path})
	return nil
}

// member is a running server.
type member struct {
	command  *exec.Cmd
	data     string
	endpoint string
}

func start(server server) (*member, error) {
	data, err := os.MkdirTemp(*dir, "floods")
	if err != nil {
		return nil, err
	}
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", *port), fmt.Sprintf("http://127.0.0.1:%d", *port+1)
	args := []string{"--name", "a", "--data-dir", filepath.Join(data, "a"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "a=" + peer, "--log-level", "error"}
	if server.name == "quorate" {
		args = append([]string{"server"}, args...)
	}
	command := exec.Command(server.path, args...)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return nil, err
	}
	m := &member{command, data, fmt.Sprintf("127.0.0.1:%d", *port)}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	one, err := connect(m.endpoint)
	if err == nil {
		_, err = one.Get(ctx, "ready")
		one.Close()
	}
	if err != nil {
		m.stop()
	}
	return m, err
}

func (m *member) stop() {
	_ = m.command.Process.Signal(syscall.SIGTERM)
	_ = m.command.Wait()
	_ = os.RemoveAll(m.data)
}

// usage is what a process takes.
type usage struct{ megabytes, threads, descriptors int }

func (m *member) usage() usage {
	proc := fmt.Sprintf("/proc/%d/", m.command.Process.Pid)
	status, _ := os.ReadFile(proc + "status")
	descriptors, _ := os.ReadDir(proc + "fd")
	number := func(name string) int {
		_, rest, _ := bytes.Cut(status, []byte(name+":"))
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			return 0
		}
		value, _ := strconv.Atoi(string(fields[0]))
		return value
	}
	return usage{number("VmRSS") / 1024, number("Threads"), len(descriptors)}
}

// watch looks at the usage until the function that it gives is called, which tells the largest.
func (m *member) watch() func() usage {
	stop, done := make(chan struct{}), make(chan usage)
	go func() {
		var most usage
		for {
			now := m.usage()
			most = usage{max(most.megabytes, now.megabytes), max(most.threads, now.threads), max(most.descriptors, now.descriptors)}
			select {
			case <-stop:
				done <- most
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() usage { close(stop); return <-done }
}

// bystander is a client that puts and gets one small key, a hundred times a second at most.
type bystander struct {
	done   chan struct{}
	took   []time.Duration
	failed int
}

func stand(ctx context.Context, endpoint string) *bystander {
	b := &bystander{done: make(chan struct{})}
	go func() {
		defer close(b.done)
		client, err := connect(endpoint)
		if err != nil {
			return
		}
		defer client.Close()
		for number := 0; ctx.Err() == nil; number++ {
			begun := time.Now()
			// Its own patience, so that the end of the flood cuts nothing short.
			asked, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if number%2 == 0 {
				_, err = client.Put(asked, "bystander", "1")
			} else {
				_, err = client.Get(asked, "bystander")
			}
			cancel()
			b.took = append(b.took, time.Since(begun))
			if err != nil {
				b.failed++
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return b
}

func (b *bystander) latencies() string {
	if len(b.took) == 0 {
		return "none"
	}
	slices.Sort(b.took)
	at := func(share float64) float64 {
		return float64(b.took[int(share*float64(len(b.took)-1))].Microseconds()) / 1000
	}
	return fmt.Sprintf("%.1f/%.1f/%.0f", at(0.5), at(0.99), at(1))
}

func connect(endpoint string) (*clientv3.Client, error) {
	// The members' words about lost connections would drown ours.
	return clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 20 * time.Second, Logger: zap.NewNop(),
		MaxCallRecvMsgSize: 1 << 30, MaxCallSendMsgSize: 16 << 20})
}
