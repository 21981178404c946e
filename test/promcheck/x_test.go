package promcheck
import (
 "testing"
 "github.com/prometheus/prometheus/promql/parser"
 _ "golang.org/x/image/font/opentype"
 _ "golang.org/x/image/font/gofont/goregular"
)
func TestX(t *testing.T){ p:=parser.NewParser(parser.Options{}); e,err:=p.ParseExpr("rate(a[5m])"); t.Log(e,err)}
