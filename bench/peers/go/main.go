// The logs of other projects in Go, behind a protocol of lines, so that a benchmark can take turns
// with them: a round here, a round of its own.
//
//	peers STORE DIRECTORY DURABLE
//
// opens STORE (see stores.go) in DIRECTORY and says in a line of JSON how long that took, the last
// entry read included. DURABLE is 1 or 0. Each line on standard input is answered by one more:
//
//	append CALLS BATCH PAYLOAD    CALLS times BATCH entries of PAYLOAD random bytes, each call timed
//	read FIRST COUNT              so many entries, into a slice of the store's own type
//
// At the end of the input the store is closed.
package main

import (
	"bufio"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

// store is a log whose entries are of type E.
type store[E any] interface {
	entry(index uint64, payload []byte) E
	append(entries []E) error
	read(first, count uint64) ([]E, error)
	last() uint64 // 0 where there is none
	close() error
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func appendBatches[E any](s store[E], random *rand.ChaCha8, calls int, batch, payload uint64) {
	next := s.last() + 1
	batches := make([][]E, calls)
	for call := range batches {
		for range batch {
			data := make([]byte, payload)
			random.Read(data)
			batches[call] = append(batches[call], s.entry(next, data))
			next++
		}
	}
	times := make([]time.Duration, calls)
	var total time.Duration
	for call, entries := range batches {
		start := time.Now()
		err := s.append(entries)
		times[call] = time.Since(start)
		must(0, err)
		total += times[call]
	}
	slices.Sort(times)
	share := func(part float64) float64 {
		return float64(times[min(int(float64(calls)*part), calls-1)]) / 1e3
	}
	fmt.Printf("{\"count\": %d, \"seconds\": %.9f, \"p50_us\": %.3f, \"p99_us\": %.3f, "+
		"\"p999_us\": %.3f, \"max_us\": %.3f}\n",
		calls, total.Seconds(), share(0.5), share(0.99), share(0.999), share(1))
}

func serve[E any](open func() (store[E], error)) {
	start := time.Now()
	s := must(open())
	last := s.last()
	fmt.Printf("{\"last\": %d, \"seconds\": %.9f}\n", last, time.Since(start).Seconds())
	random := rand.NewChaCha8([32]byte{})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		line := lines.Text()
		var calls int
		var first, count uint64
		if strings.HasPrefix(line, "append") {
			must(fmt.Sscanf(line, "append %d %d %d", &calls, &first, &count))
			appendBatches(s, random, calls, first, count)
		} else {
			must(fmt.Sscanf(line, "read %d %d", &first, &count))
			start := time.Now()
			found := must(s.read(first, count))
			fmt.Printf("{\"count\": %d, \"seconds\": %.9f}\n", len(found), time.Since(start).Seconds())
		}
	}
	must(0, s.close())
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: peers STORE DIRECTORY DURABLE")
	}
	directory, durable := os.Args[2], os.Args[3] == "1"
	switch os.Args[1] {
	case "etcd-wal":
		serve(func() (store[etcdEntry], error) { return openEtcd(directory, durable) })
	case "raft-wal":
		serve(func() (store[raftWalEntry], error) { return openRaftWal(directory) })
	default:
		log.Fatal("no store ", os.Args[1])
	}
}
