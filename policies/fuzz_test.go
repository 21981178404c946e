package policies

import (
	"os"
	"path/filepath"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "examples/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// A calendar file is what the policy is, too: not what lies on this disk.
		set, found, _ := parseWith([]File{{Name: "fuzz.yaml", Data: data}}, &outside{
			read:   func(string) ([]byte, error) { return data, nil },
			lookup: func(string) (string, bool) { return string(data), true },
		})
		mistakes := found.errors()
		for _, m := range mistakes {
			if m.Line < 1 || m.Column < 1 || m.Message == "" {
				t.Errorf("Parse(%q) has a mistake without a place or message: %+v", data, m)
			}
			_ = m.Detail() // must not panic on any line
		}
		if len(mistakes) > 0 {
			return
		}
		Check(set, now)
		set.Match("shop.example.com:80", "POST", "/v1/orders/7")
	})
}
