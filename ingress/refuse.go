package ingress

import (
	"net/http"

	"forebay/ingress/http1"
)

// refuse answers what is no request that a handler could see.
func refuse(w http.ResponseWriter, r *http.Request, fault *http1.Fault) {
	x := begin(w, r, true)
	x.fail(problemOfFault(fault))
}

func problemOfFault(f *http1.Fault) *problem {
	switch f.Status {
	case http.StatusRequestURITooLong:
		return problemURITooLong()
	case http.StatusRequestHeaderFieldsTooLarge:
		return &problem{
			kind: problemPrefix + "headers-too-large", title: "Headers too large",
			status: f.Status, detail: f.Detail,
		}
	}
	return problemBadRequest(f.Detail)
}
