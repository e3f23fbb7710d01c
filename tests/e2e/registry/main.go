// SPDX-License-Identifier: Apache-2.0

// A container registry for tests: keeps what is pushed in a folder, asks for a password where told.
//
//	registry -address 10.97.0.1:5000 -dir DIR [-user NAME -password WORD [-public REGEXP]]
//
// With a password, requests need it, but for reads of repositories whose name matches -public. Says
// "listening" on stderr, then one line for each request: method, path, status.
package main

import (
	"crypto/subtle"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"

	"github.com/google/go-containerregistry/pkg/registry"
)

type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func main() {
	address := flag.String("address", "127.0.0.1:0", "where to listen")
	dir := flag.String("dir", "", "folder for what is pushed")
	user := flag.String("user", "", "user")
	password := flag.String("password", "", "password; none is asked for when empty")
	public := flag.String("public", "^$", "repositories that anybody reads")
	flag.Parse()
	readable := regexp.MustCompile(*public)
	repository := regexp.MustCompile(`^/v2/(.+)/(?:manifests|blobs|tags)/`)
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		log.Fatal(err)
	}
	store := registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(*dir)),
		registry.Logger(log.New(io.Discard, "", 0)))

	allowed := func(r *http.Request) bool {
		if *password == "" {
			return true
		}
		if u, p, ok := r.BasicAuth(); ok {
			return subtle.ConstantTimeCompare([]byte(u+"\n"+p), []byte(*user+"\n"+*password)) == 1
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return false
		}
		m := repository.FindStringSubmatch(r.URL.Path)
		return m != nil && readable.MatchString(m[1])
	}
	serve := func(w http.ResponseWriter, r *http.Request) {
		a := &answer{w, http.StatusOK}
		if allowed(r) {
			store.ServeHTTP(a, r)
		} else {
			a.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(a, `{"errors":[{"code":"UNAUTHORIZED","message":"password needed"}]}`,
				http.StatusUnauthorized)
		}
		log.Print(r.Method, " ", r.URL.Path, " ", a.status)
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening")
	log.Fatal(http.Serve(listener, http.HandlerFunc(serve)))
}
