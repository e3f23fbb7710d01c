// SPDX-License-Identifier: Apache-2.0

// Command web is an application on Go's net/http, and a client that hurries.
//
//	web serve ADDRESS [IDLE]           HTTP/1.1 and HTTP/2 with prior knowledge; connections that are idle for
//	                                   IDLE are closed
//	web race [-put] URL HOST N PAUSE   N requests on kept connections with pauses about PAUSE between them, so
//	                                   that the server closes just then; prints what failed
//	web stream URL HOST                a conversation over one HTTP/2 stream, both sides in turn
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

func protocols(h1, h2c bool) *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(h1)
	p.SetUnencryptedHTTP2(h2c)
	return &p
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func serve(address string, idle time.Duration) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %s received=%d\n", r.Method, r.URL.Path, r.Proto, n)
	})
	mux.HandleFunc("/size", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
		if r.URL.Query().Has("length") {
			w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		}
		io.CopyN(w, zeros{}, n)
	})
	mux.HandleFunc("/digest", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		fmt.Fprintf(w, "received=%d sha256=%s error=%v\n", n, hex.EncodeToString(h.Sum(nil)), err)
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		fmt.Fprintln(w, "content")
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Checksum")
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "received=%d asked=%q\n", n, r.Trailer.Get("X-Question"))
		w.Header().Set("X-Checksum", "answered")
	})
	// Each piece leaves at once, and is answered before the next one.
	mux.HandleFunc("/turns", func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		c.EnableFullDuplex()
		lines := bufio.NewScanner(r.Body)
		w.WriteHeader(http.StatusOK)
		c.Flush()
		for lines.Scan() {
			fmt.Fprintf(w, "heard %s\n", lines.Text())
			c.Flush()
		}
	})
	mux.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusHTTPVersionNotSupported)
			return
		}
		defer conn.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nwelcome\n")
		rw.Flush()
		line, _ := rw.ReadString('\n')
		rw.WriteString("echo " + line)
		rw.Flush()
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	s := &http.Server{Addr: address, Handler: mux, IdleTimeout: idle, Protocols: protocols(true, true)}
	return s.ListenAndServe()
}

func race(url, host string, n int, pause time.Duration, put bool) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := map[string]int{}
	const clients = 8
	for c := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewSource(int64(c)))
			client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
			for range n / clients {
				time.Sleep(time.Duration(float64(pause) * (0.8 + 0.4*rnd.Float64())))
				var body io.Reader
				method := "GET"
				if put {
					method, body = "PUT", bytes.NewReader(make([]byte, 1000))
				}
				req, err := http.NewRequest(method, url, body)
				if err != nil {
					log.Fatal(err)
				}
				req.Host = host
				what := ""
				if res, err := client.Do(req); err != nil {
					what = err.Error()
				} else {
					if _, err = io.Copy(io.Discard, res.Body); err != nil {
						what = err.Error()
					} else if res.StatusCode != 200 {
						what = res.Status
					}
					res.Body.Close()
				}
				if what != "" {
					mu.Lock()
					failed[what]++
					mu.Unlock()
				}
			}
		}()
	}
	wg.Wait()
	if len(failed) > 0 {
		return fmt.Errorf("%d requests: %v", n, failed)
	}
	fmt.Printf("%d requests, none failed\n", n)
	return nil
}

func stream(url, host string) error {
	client := &http.Client{Transport: &http.Transport{Protocols: protocols(false, true)}, Timeout: 10 * time.Second}
	r, w := io.Pipe()
	req, err := http.NewRequest("POST", url, r)
	if err != nil {
		return err
	}
	req.Host = host
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for i := range 100 {
		said := strings.Repeat("word ", i) + strconv.Itoa(i)
		fmt.Fprintln(w, said)
		if !lines.Scan() || lines.Text() != "heard "+said {
			return fmt.Errorf("turn %d: %q, %v", i, lines.Text(), lines.Err())
		}
	}
	w.Close()
	if lines.Scan() {
		return fmt.Errorf("behind the end: %q", lines.Text())
	}
	fmt.Println("100 turns over", res.Proto)
	return nil
}

func run(args []string) error {
	usage := errors.New("usage: web serve|race|stream ...")
	if len(args) < 2 {
		return usage
	}
	switch verb, args := args[0], args[1:]; {
	case verb == "serve":
		idle := time.Duration(0)
		if len(args) > 1 {
			var err error
			if idle, err = time.ParseDuration(args[1]); err != nil {
				return err
			}
		}
		return serve(args[0], idle)
	case verb == "race":
		put := args[0] == "-put"
		if put {
			args = args[1:]
		}
		if len(args) != 4 {
			return usage
		}
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		pause, err := time.ParseDuration(args[3])
		if err != nil {
			return err
		}
		return race(args[0], args[1], n, pause, put)
	case verb == "stream" && len(args) == 2:
		return stream(args[0], args[1])
	}
	return usage
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
