//go:build tools

// Package suite pins etcd's own programs and test suites, which are built unchanged and run against Quorate.
package suite

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/tests/v3/common"
	_ "go.etcd.io/etcd/tests/v3/framework/e2e"
	_ "go.etcd.io/etcd/v3/tools/benchmark"
)
