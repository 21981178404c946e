package dashboards

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

//go:embed *.json rules/alerts.yaml rules/recording.yaml
var files embed.FS

// Files are the committed dashboards, "forebay-NAME.json", and rules, "rules/NAME.yaml".
func Files() fs.FS { return files }

// runbookAt is where the committed alerts say that their runbooks are, in the repository.
const runbookAt = "runbook_url: docs/runbooks/"

// Export writes them to a folder, which it makes where there is none, over what is there,
// and returns their names. It touches no other files. Where runbooks is not empty the
// alerts say that theirs are at that URL.
func Export(dir, runbooks string) (names []string, err error) {
	err = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		if runbooks != "" {
			data = bytes.ReplaceAll(data, []byte(runbookAt), []byte("runbook_url: "+strings.TrimSuffix(runbooks, "/")+"/"))
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		names = append(names, name)
		return os.WriteFile(path, data, 0o644)
	})
	if err != nil {
		return names, fmt.Errorf("export dashboards: %w", err)
	}
	return names, nil
}
