package main_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const deploy = "../../deploy"

// Every file under deploy is what its reader takes, and what the compose file mounts is
// there, but for what is made first.
func TestDeploy(t *testing.T) {
	err := filepath.WalkDir(deploy, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" && filepath.Ext(path) != ".yml" {
			return err
		}
		var any map[string]any
		if err := yaml.Unmarshal([]byte(readText(t, path)), &any); err != nil || len(any) == 0 {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, code := command(t, "check", "--strict", filepath.Join(deploy, "policies", "shop.yaml")); code != 0 {
		t.Errorf("forebay check: exit %d\n%s%s", code, stdout, stderr)
	}
	var compose struct {
		Services map[string]struct {
			Volumes, Secrets []string
		}
		Volumes map[string]any
		Secrets map[string]struct{ File string }
	}
	if err := yaml.Unmarshal([]byte(readText(t, filepath.Join(deploy, "compose.yaml"))), &compose); err != nil || len(compose.Services) != 3 {
		t.Fatalf("compose.yaml has %d services, %v", len(compose.Services), err)
	}
	made := []string{"../bin/forebay", "./data"}
	for name, s := range compose.Services {
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if _, named := compose.Volumes[from]; named || slices.Contains(made, from) {
				continue
			}
			if _, err := os.Stat(filepath.Join(deploy, from)); err != nil {
				t.Errorf("%s mounts %v", name, err)
			}
		}
		for _, secret := range s.Secrets {
			if compose.Secrets[secret].File == "" {
				t.Errorf("%s has the secret %s, which nobody gives", name, secret)
			}
		}
	}
	// The server's file is one that a start takes, but for the token that is not there.
	_, stderr, code := command(t, "check", "--config", filepath.Join(deploy, "forebay.yaml"), filepath.Join(deploy, "policies", "shop.yaml"))
	if code != 0 {
		t.Errorf("forebay check --config: exit %d\n%s", code, stderr)
	}
}
