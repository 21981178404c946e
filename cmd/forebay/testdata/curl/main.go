// Command curl stands in for curl where the documentation's commands are run on
// a machine that has none. It knows the flags that the documentation uses and
// refuses every other.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

type request struct {
	method, url, out string
	header           http.Header
	body             []byte
	fail, head       bool // -f; -i
}

func main() {
	r, err := parse(os.Args[1:])
	if err == nil {
		err = r.send()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "curl:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*request, error) {
	r := &request{header: make(http.Header)}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if !strings.HasPrefix(arg, "-") {
			r.url = arg
			continue
		}
		if strings.Trim(arg, "-fisS") == "" {
			r.fail = r.fail || strings.Contains(arg, "f")
			r.head = r.head || strings.Contains(arg, "i")
			continue
		}
		if len(args) == 0 {
			return nil, fmt.Errorf("%s needs a value", arg)
		}
		if err := r.set(arg, args[0]); err != nil {
			return nil, err
		}
		args = args[1:]
	}
	if r.url == "" {
		return nil, errors.New("no URL")
	}
	if !strings.Contains(r.url, "://") {
		r.url = "http://" + r.url
	}
	return r, nil
}

func (r *request) set(flag, value string) (err error) {
	switch flag {
	case "-X", "--request":
		r.method = value
	case "-o", "--output":
		r.out = value
	case "-H", "--header":
		name, v, _ := strings.Cut(value, ":")
		r.header.Add(name, strings.TrimSpace(v))
	case "-d", "--data", "--data-binary", "--json":
		if flag == "--json" {
			r.header.Set("Content-Type", "application/json")
		}
		r.body, err = data(value)
	default:
		return fmt.Errorf("%s is not known to this stand-in", flag)
	}
	return err
}

func data(value string) ([]byte, error) {
	switch name, isFile := strings.CutPrefix(value, "@"); {
	case !isFile:
		return []byte(value), nil
	case name == "-":
		return io.ReadAll(os.Stdin)
	default:
		return os.ReadFile(name)
	}
}

func (r *request) send() error {
	if r.method == "" {
		r.method = http.MethodGet
		if r.body != nil {
			r.method = http.MethodPost
		}
	}
	req, err := http.NewRequest(r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return err
	}
	req.Header = r.header
	if r.body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if r.fail && resp.StatusCode >= 400 {
		return fmt.Errorf("the server answered %s", resp.Status)
	}
	out := os.Stdout
	if r.out != "" {
		if out, err = os.Create(r.out); err != nil {
			return err
		}
		defer out.Close()
	}
	if r.head {
		fmt.Fprintf(out, "%s %s\r\n", resp.Proto, resp.Status)
		if err := resp.Header.Write(out); err != nil {
			return err
		}
		fmt.Fprint(out, "\r\n")
	}
	_, err = io.Copy(out, resp.Body)
	return err
}
