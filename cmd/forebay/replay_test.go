package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/cmd/forebay/admin"
	"forebay/limiter"
)

// groups are the requests that a slow replay makes, as "time: ids".
func groups(ctx context.Context, t *testing.T, rate limiter.Rate, ids int, fail func(group int) error) (list []string, sum admin.Replayed, err error) {
	t.Helper()
	start := time.Now()
	s := slowReplay{
		rate: rate,
		replay: func(ctx context.Context, ids []string) (admin.Replayed, error) {
			list = append(list, fmt.Sprintf("%v: %s", time.Since(start), strings.Join(ids, " ")))
			if ctx.Err() != nil {
				t.Error("a request that is under way is broken off")
			}
			return admin.Replayed{Matched: len(ids), Replayed: len(ids)}, fail(len(list))
		},
		tell: func(done, of int) {
			list = append(list, fmt.Sprintf("%v: told %d of %d", time.Since(start), done, of))
		},
	}
	all := make([]string, ids)
	for i := range all {
		all[i] = strconv.Itoa(i)
	}
	sum, err = s.run(ctx, all)
	return list, sum, err
}

func none(int) error { return nil }

func TestSlowReplay(t *testing.T) {
	tests := []struct {
		name string
		rate limiter.Rate
		ids  int
		want []string
	}{
		{"a second's worth at a time", 2, 5, []string{"0s: 0 1", "1s: 2 3", "2s: 4"}},
		{"less than one a second", 0.5, 3, []string{"0s: 0", "2s: 1", "4s: 2"}},
		{"no whole number a second", 1.5, 3, []string{"0s: 0 1", "1.333333333s: 2"}},
		{"progress", 0.2, 3, []string{"0s: 0", "5s: 1", "5s: told 2 of 3", "10s: 2", "10s: told 3 of 3"}},
		{"none", 5, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, sum, err := groups(t.Context(), t, tt.rate, tt.ids, none)
				if diff := cmp.Diff(tt.want, got); diff != "" || err != nil || sum.Replayed != tt.ids || sum.Matched != tt.ids {
					t.Errorf("sum %+v, %v (-want +got):\n%s", sum, err, diff)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		got, _, _ := groups(t.Context(), t, limiter.Unlimited, 2500, none)
		if len(got) != 3 || strings.Count(got[0], " ") != maxReplayGroup {
			t.Errorf("unlimited: %d requests, want 3 of at most %d ids", len(got), maxReplayGroup)
		}
	})
}

func TestSlowReplayEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		time.AfterFunc(1500*time.Millisecond, stop)
		got, sum, err := groups(ctx, t, 2, 100, none)
		if !errors.Is(err, context.Canceled) || len(got) != 2 || sum.Replayed != 4 {
			t.Errorf("stopped after 1.5 s at 2/s: %v, sum %+v, %v; want two groups and context.Canceled", got, sum, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		got, _, err := groups(ctx, t, 2, 100, func(int) error { stop(); return nil })
		if !errors.Is(err, context.Canceled) || len(got) != 1 {
			t.Errorf("stopped during the first group: %v, %v; want that group and no other", got, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		lost := errors.New("lost")
		_, sum, err := groups(t.Context(), t, 2, 100, func(group int) error {
			if group == 3 {
				return lost
			}
			return nil
		})
		if !errors.Is(err, lost) || sum.Replayed != 6 {
			t.Errorf("a request that fails: sum %+v, %v; want what was done and the failure", sum, err)
		}
	})
}

// graveyard is an admin API with five dead letters that are listed in pages of two.
func graveyard(t *testing.T, refuse bool) (url string, asked *[]string) {
	t.Helper()
	asked = &[]string{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Method == http.MethodGet {
			*asked = append(*asked, "GET "+r.URL.RawQuery)
			from, _ := strconv.Atoi(r.URL.Query().Get("after"))
			page := admin.Page[admin.Dead]{}
			for i := from; i < min(from+2, 5); i++ {
				page.Items = append(page.Items, admin.Dead{ID: strconv.Itoa(i)})
			}
			if from+2 < 5 {
				next := strconv.Itoa(from + 2)
				page.Next = &next
			}
			_ = json.NewEncoder(w).Encode(page)
			return
		}
		*asked = append(*asked, string(body))
		var a admin.Act
		if err := json.Unmarshal(body, &a); err != nil {
			t.Error(err)
		}
		if refuse {
			answer(404, "application/problem+json", `{"title":"Not found","detail":"Drain d: not found."}`)(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(admin.Replayed{Drain: a.Drain, Matched: len(a.IDs), Replayed: len(a.IDs), DryRun: a.DryRun})
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

func TestReplayAtARate(t *testing.T) {
	list := []string{"GET died_of=permanent&drain=d&limit=1000", "GET after=2&died_of=permanent&drain=d&limit=1000", "GET after=4&died_of=permanent&drain=d&limit=1000"}
	tests := []struct {
		name, args string
		refuse     bool
		code       int
		stdout     string
		stderr     string
		asked      []string
	}{
		{
			name: "all that match", args: "--died-of permanent --rate 60000/m --reason INC-1", stdout: "5 dead letters replayed\n",
			asked: append(slices.Clone(list), `{"reason":"INC-1","drain":"d","died_of":"permanent","ids":["0","1","2","3","4"]}`),
		},
		{
			name: "by id, without a look", args: "--id a --id b --rate 50 -o json",
			stdout: "{\n  \"drain\": \"d\",\n  \"matched\": 2,\n  \"replayed\": 2,\n  \"dry_run\": false\n}\n",
			asked:  []string{`{"drain":"d","ids":["a","b"]}`},
		},
		{
			name: "a dry run needs no pace", args: "--rate 1/h --dry-run", stdout: "0 dead letters would be replayed\n",
			asked: []string{`{"drain":"d","dry_run":true}`},
		},
		{
			name: "refused", args: "--id a --rate 50/s", refuse: true, code: exitFailed, stdout: "0 dead letters replayed\n",
			stderr: "error: 0 of 1 dead letter replayed: drain d: not found\n",
			asked:  []string{`{"drain":"d","ids":["a"]}`},
		},
		{
			name: "no rate", args: "--rate fast", code: exitUsage,
			stderr: "error: \"fast\" is not a rate such as 50/s, 3000/m, 100/h, 0 or unlimited\nhint: write a rate such as 50/s or 3000/m\n",
			asked:  []string{},
		},
		{
			name: "rate 0", args: "--rate 0", code: exitUsage,
			stderr: "error: --rate 0 would bring nothing back\nhint: write a rate such as 50/s or 3000/m\n", asked: []string{},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url, asked := graveyard(t, tt.refuse)
			var stdout, stderr bytes.Buffer
			args := append(strings.Fields("dead replay --drain d "+tt.args), "--admin-url", url)
			code := run(t.Context(), args, nil, &stdout, &stderr)
			if code != tt.code || stdout.String() != tt.stdout || stderr.String() != tt.stderr {
				t.Errorf("forebay %v = %d\nstdout %q\nstderr %q\nwant %d, %q, %q", args, code, &stdout, &stderr, tt.code, tt.stdout, tt.stderr)
			}
			if diff := cmp.Diff(tt.asked, *asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}
