package buffer_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/buffer/segment"

	"golang.org/x/sys/unix"
)

// BenchmarkCommitBesideReaders is one append after the other, alone and while two
// drains read a backlog that the kernel has to fetch from the disk.
func BenchmarkCommitBesideReaders(b *testing.B) {
	for _, readers := range []int{0, 2} {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) {
			dir := stored(b, 1_000_000)
			e := reopened(b, dir)
			if err := e.Configure(append(orders("mail"), buffer.Stream{Name: "others"})); err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(b.Context())
			var all sync.WaitGroup
			for range readers {
				all.Go(func() { readCold(ctx, b, e, dir) })
			}
			msgs := []buffer.Message{order(1)}
			took := make([]time.Duration, 0, b.N)
			b.ResetTimer()
			for range b.N {
				begin := time.Now()
				if _, err := e.Append(b.Context(), "others", noon, msgs); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			b.StopTimer()
			stop()
			all.Wait()
			slices.Sort(took)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(e.BlocksRead()), "blocks-read")
		})
	}
}

// readCold reads the backlog again and again, each time from the disk.
func readCold(ctx context.Context, b *testing.B, e *buffer.Engine, dir string) {
	// At 200,000 messages a second, so that it is the disk that commits may wait for,
	// and not processors that are busy.
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for ctx.Err() == nil {
		for _, index := range files(b, dir, "seg-*/INDEX") { // what is written to stays in memory
			if f, err := os.Open(filepath.Join(filepath.Dir(index), segment.LogFile)); err == nil {
				_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
				f.Close()
			}
		}
		e.ForgetBlocks()
		for range 20 {
			ds, _, err := e.Take("mail", noon, readBatch)
			if err != nil || len(ds) == 0 || ctx.Err() != nil {
				return
			}
			for i := range ds {
				e.Ack("mail", ds[i].Offset, buffer.Result{At: noon, Attempts: 1, Status: 200})
			}
			<-pace.C
		}
	}
}
