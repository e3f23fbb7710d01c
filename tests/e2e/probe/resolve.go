// SPDX-License-Identifier: Apache-2.0

// resolve-go [-tcp] NAME: as resolve.c, with Go's own resolver.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	tcp := flag.Bool("tcp", false, "ask by TCP")
	flag.Parse()
	r := &net.Resolver{PreferGo: true}
	if *tcp {
		r.Dial = func(ctx context.Context, _, address string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	list, err := r.LookupHost(ctx, flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, a := range list {
		fmt.Println(a)
	}
}
