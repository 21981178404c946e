// Package ingresstest holds an overflow route to its order: callers of few keys post
// to it at once, a sink answers as badly as sinks do, and what each of them saw is
// compared at the end. It promises to find what it knows how to look for, and that
// only as often as a run happens to provoke it.
package ingresstest
