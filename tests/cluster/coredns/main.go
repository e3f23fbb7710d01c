// SPDX-License-Identifier: Apache-2.0

// CoreDNS with the plugins that a test cluster's DNS needs and no others. No cache: a test that
// makes a Service wants to see its name at once.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

// Who answers first, from left to right.
func init() {
	dnsserver.Directives = []string{
		"bind", "ready", "errors", "log", "kubernetes", "hosts", "template", "forward",
	}
}

func main() {
	coremain.Run()
}
