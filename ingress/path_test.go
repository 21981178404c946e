package ingress

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"
)

func TestTargetFault(t *testing.T) {
	tests := []struct{ target, want string }{
		{"/", ""},
		{"/v1/orders", ""},
		{"/v1/orders/", ""},
		{"/v1/orders?next=/a//b/../c%2f#no", "the request target has a fragment"},
		{"/v1/orders?next=/a//b/../c%2f%00", ""},
		{"/v1/%6frders;v=1/a%20b/%C3%A9/%25", ""},
		{"/v1/..orders/.hidden/...", ""},
		{"/v1/a%2fb", "the path has an encoded separator"},
		{"/v1/a%2Fb", "the path has an encoded separator"},
		{"/v1/a%5cb", "the path has an encoded separator"},
		{`/v1/a\b`, "the path has a backslash"},
		{"/v1/a%00b", "the path has an encoded control character"},
		{"/v1/a%0d%0ab", "the path has an encoded control character"},
		{"/v1/a%7f", "the path has an encoded control character"},
		{"/v1/%2e%2e/x", "the path has an encoded dot"},
		{"/v1/.%2E/x", "the path has an encoded dot"},
		{"/v1//x", "the path has an empty segment"},
		{"//x", "the path has an empty segment"},
		{"/v1/../x", "the path has a dot segment"},
		{"/v1/..", "the path has a dot segment"},
		{"/v1/./x", "the path has a dot segment"},
		{"/.", "the path has a dot segment"},
		{"/v1/..;a=b/x", "the path has a dot segment"},
		{"/v1/%zz", "the path has a broken percent-encoding"},
		{"/v1/%2", "the path has a broken percent-encoding"},
		{"/v1/%2525", "the path is percent-encoded twice"},
		{"/v1/%252e%252e/x", "the path is percent-encoded twice"},
		{"/v1/%25%32%66", "the path is percent-encoded twice"},
		{"/v1/100%25/x", ""},
		{"/v1/%25zz", ""},
		{"/v1/%c0%af", "the path is not UTF-8"},
		{"/v1/%c0%ae%c0%ae/x", "the path is not UTF-8"},
		{"/v1/%e0%80%af", "the path is not UTF-8"},
		{"/v1/\xc0\xaf", "the path is not UTF-8"},
		{"/v1/%E9", "the path is not UTF-8"},
		{"/v1/\xc3\xa9", ""},
		{"/v1/..%3bx/y", "the path has a dot segment"},
		{"/v1/;x/y", "the path has an empty segment"},
		{"/v1/%3b/y", "the path has an empty segment"},
		{"/v1/orders;/y;a=b;c", ""},
		{"/v1/a b", "the path has a space or a control character"},
		{"*", "the request target has no path"},
		{"", "the request target has no path"},
		{"?a", "the request target has no path"},
	}
	for _, tt := range tests {
		if got := targetFault(tt.target); got != tt.want {
			t.Errorf("targetFault(%q) = %q, want %q", tt.target, got, tt.want)
		}
	}
}

func TestCheckedTarget(t *testing.T) {
	tests := []struct {
		name    string
		request *http.Request
		want    string
		status  int
	}{
		{"origin form", &http.Request{RequestURI: "/a?b=%zz", URL: &url.URL{Path: "/a", RawQuery: "b=%zz"}}, "/a?b=%zz", 0},
		{"absolute form", &http.Request{RequestURI: "http://h/a?b", URL: &url.URL{Scheme: "http", Host: "h", Path: "/a", RawQuery: "b"}}, "/a?b", 0},
		{"authority form", &http.Request{Method: "CONNECT", RequestURI: "h:443", URL: &url.URL{Host: "h:443"}}, "", 400},
		{"asterisk form", &http.Request{Method: "OPTIONS", RequestURI: "*", URL: &url.URL{Path: "*"}}, "", 400},
		{"longest", httptest.NewRequest("GET", "/"+strings.Repeat("x", maxTarget-1), nil), "/" + strings.Repeat("x", maxTarget-1), 0},
		{"too long", httptest.NewRequest("GET", "/"+strings.Repeat("x", maxTarget), nil), "", 414},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := checkedTarget(tt.request)
			status := 0
			if err != nil {
				status = problemOf(err).status
			}
			if got != tt.want || status != tt.status {
				t.Errorf("got %.40q, %d, want %.40q, %d", got, status, tt.want, tt.status)
			}
		})
	}
}

// FuzzTargetFault holds that a path that passes is its own normal form: no two
// servers that normalise it, before or after decoding, can differ about it.
func FuzzTargetFault(f *testing.F) {
	for _, s := range []string{"/v1/orders?x=1", "/a%2e/b", "/a/..;x", "//", "/%", "/é", "/a/.../b", "/%25%32%66"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if targetFault(target) != "" {
			return
		}
		raw, _, _ := strings.Cut(target, "?")
		decoded, err := url.PathUnescape(raw)
		if err != nil {
			t.Fatalf("passed %q, which cannot be decoded: %v", target, err)
		}
		if strings.Count(decoded, "/") != strings.Count(raw, "/") || strings.ContainsAny(decoded, "\\\x00\r\n") {
			t.Errorf("passed %q, which decodes to %q", target, decoded)
		}
		trimmed := strings.TrimSuffix(decoded, "/")
		if trimmed != "" && path.Clean(trimmed) != trimmed {
			t.Errorf("passed %q, which cleans to %q", target, path.Clean(trimmed))
		}
	})
}
