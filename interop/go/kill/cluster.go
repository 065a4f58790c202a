package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// member is one server process and its directory.
type member struct {
	name     string
	client   string
	peer     string
	args     []string
	dir      string
	process  *exec.Cmd
	launched int
	// lives rises when the process starts and when it is killed: it is odd and unchanged over a request that a living member answered.
	lives atomic.Int64
}

// cluster is three servers on loopback.
type cluster struct {
	binary  string
	members []*member
}

func newCluster(binary, dir string, port int) *cluster {
	c := &cluster{binary: binary}
	var initial []string
	for i := range 3 {
		m := &member{name: fmt.Sprintf("n%d", i), client: fmt.Sprintf("127.0.0.1:%d", port+2*i), peer: fmt.Sprintf("http://127.0.0.1:%d", port+2*i+1)}
		m.dir = filepath.Join(dir, m.name)
		initial = append(initial, m.name+"="+m.peer)
		c.members = append(c.members, m)
	}
	for _, m := range c.members {
		m.args = []string{
			"--name", m.name, "--data-dir", m.dir,
			"--listen-client-urls", "http://" + m.client, "--advertise-client-urls", "http://" + m.client,
			"--listen-peer-urls", m.peer, "--initial-advertise-peer-urls", m.peer,
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", "new", "--initial-cluster-token", "kill",
		}
	}
	return c
}

func (c *cluster) endpoints() []string {
	var all []string
	for _, m := range c.members {
		all = append(all, m.client)
	}
	return all
}

// start runs a member; its output goes to a file beside its directory.
func (c *cluster) start(m *member) error {
	m.launched++
	log, err := os.Create(fmt.Sprintf("%s.%d.log", m.dir, m.launched))
	if err != nil {
		return err
	}
	defer log.Close()
	m.process = exec.Command(c.binary, m.args...)
	m.process.Stdout, m.process.Stderr = log, log
	m.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.process.Start(); err != nil {
		return err
	}
	m.lives.Add(1)
	return nil
}

func (c *cluster) startAll() error {
	for _, m := range c.members {
		if err := c.start(m); err != nil {
			return err
		}
	}
	return nil
}

// kill ends a member as kill -9 does and waits until it is gone.
func (m *member) kill() {
	if m.process == nil {
		return
	}
	m.strike()
	_ = m.process.Wait()
	m.process = nil
}

// strike sends the kill and does not wait.
func (m *member) strike() {
	if m.lives.Load()%2 == 1 {
		m.lives.Add(1)
	}
	_ = m.process.Process.Kill()
}

func (c *cluster) killAll() {
	for _, m := range c.members {
		if m.process != nil {
			m.strike()
		}
	}
	for _, m := range c.members {
		m.kill()
	}
}

// leader finds who leads, or nil.
func (c *cluster) leader(client *clientv3.Client) *member {
	for _, m := range c.members {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		status, err := client.Status(ctx, m.client)
		cancel()
		if err == nil && status.Leader == status.Header.MemberId {
			return m
		}
	}
	return nil
}

func connect(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 2 * time.Second, Logger: zap.NewNop()})
}
