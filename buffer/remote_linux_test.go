package buffer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"forebay/buffer"
)

// engineServer calls methods of an engine by name.
type engineServer struct{ e *buffer.Engine }

// EngineCall and EngineReply are exported for net/rpc.
type EngineCall struct {
	Method string
	Args   []json.RawMessage // without contexts
}

type EngineReply struct {
	Results []any // without the error
	Err     string
	Known   int // of sentinels, from 1; 0: another error
}

// sentinels are the errors that have to be told apart over there.
var sentinels = []error{
	buffer.ErrBufferFull, buffer.ErrDiskFull, buffer.ErrOverloaded, buffer.ErrStalled, buffer.ErrUndecided, buffer.ErrTooLarge,
	buffer.ErrNoStream, buffer.ErrNoDrain, buffer.ErrNoMessage, buffer.ErrGone, buffer.ErrDelivering, buffer.ErrFinal,
	buffer.ErrMismatch, buffer.ErrInProgress, buffer.ErrDeadFull, buffer.ErrBroken, buffer.ErrClosed,
}

// Call is net/rpc's.
func (s *engineServer) Call(c EngineCall, r *EngineReply) error {
	fn := reflect.ValueOf(s.e).MethodByName(c.Method)
	if !fn.IsValid() {
		return fmt.Errorf("an engine has no method %s", c.Method)
	}
	in, rest := []reflect.Value(nil), c.Args
	for of := range fn.Type().Ins() {
		arg := reflect.New(of)
		if ctx, ok := reflect.TypeAssert[*context.Context](arg); ok {
			*ctx = context.Background()
		} else {
			if err := json.Unmarshal(rest[0], arg.Interface()); err != nil {
				return fmt.Errorf("%s: %w", c.Method, err)
			}
			rest = rest[1:]
		}
		if msgs, ok := reflect.TypeAssert[*[]buffer.Message](arg); ok {
			shareHeads(*msgs)
		}
		in = append(in, arg.Elem())
	}
	for _, out := range fn.Call(in) {
		if out.Type() != reflect.TypeFor[error]() {
			r.Results = append(r.Results, out.Interface())
		} else if err, ok := reflect.TypeAssert[error](out); ok && err != nil {
			r.Err = err.Error()
			r.Known = 1 + slices.IndexFunc(sentinels, func(known error) bool { return errors.Is(err, known) })
		}
	}
	return nil
}

// shareHeads makes equal headers in a row one slice again, as they were sent.
func shareHeads(msgs []buffer.Message) {
	for i := 1; i < len(msgs); i++ {
		if slices.Equal(msgs[i].Header, msgs[i-1].Header) {
			msgs[i].Header = msgs[i-1].Header
		}
	}
}

// remote is an engine in another process. The caller's time-outs are not known
// there, and of its channels nothing.
type remote struct{ *process }

// A method that is missing would leave out what the model looks at.
var _ interface {
	buffer.Buffer
	buffer.Receipts
	buffer.Once
	buffer.Expirer
	buffer.OwnDeadlines
	buffer.DeadLetters
	buffer.Searcher
	buffer.Inspector
} = remote{}

// close ends the engine in good order.
func (r remote) close() error {
	err := r.call("Close", nil)
	r.kill()
	return err
}

// call fills results, which are pointers, in the order of the method's.
func (r remote) call(method string, results []any, args ...any) error {
	c := EngineCall{Method: method}
	for _, arg := range args {
		text, err := json.Marshal(arg)
		if err != nil {
			return err
		}
		c.Args = append(c.Args, text)
	}
	var reply struct {
		Results []json.RawMessage
		Err     string
		Known   int
	}
	if err := r.rpc.Call("Engine.Call", c, &reply); err != nil {
		return err
	}
	for i, to := range results {
		if err := json.Unmarshal(reply.Results[i], to); err != nil {
			return err
		}
	}
	switch {
	case reply.Known > 0:
		return fmt.Errorf("%w: %s", sentinels[reply.Known-1], reply.Err)
	case reply.Err != "":
		return errors.New(reply.Err)
	}
	return nil
}

// The methods that return no error cannot tell that the other process is gone: the
// next that can does so.

func (r remote) Configure(streams []buffer.Stream) error { return r.call("Configure", nil, streams) }

func (r remote) Append(_ context.Context, stream string, now time.Time, msgs []buffer.Message) (a buffer.Accepted, err error) {
	err = r.call("Append", []any{&a}, stream, now, msgs)
	return a, err
}

func (r remote) AppendOnce(_ context.Context, stream string, now time.Time, msgs []buffer.Message, key buffer.OnceKey) (a buffer.Accepted, again bool, err error) {
	err = r.call("AppendOnce", []any{&a, &again}, stream, now, msgs, key)
	return a, again, err
}

func (r remote) Repeated(_ context.Context, stream string, now time.Time, key buffer.OnceKey) (a buffer.Accepted, again bool, err error) {
	err = r.call("Repeated", []any{&a, &again}, stream, now, key)
	return a, again, err
}

func (r remote) Lookup(_ context.Context, stream string, key [16]byte, now time.Time) (a buffer.Accepted, err error) {
	err = r.call("Lookup", []any{&a}, stream, key, now)
	return a, err
}

func (r remote) Take(drain string, now time.Time, limit int) (ds []buffer.Delivery, next time.Time, err error) {
	err = r.call("Take", []any{&ds, &next}, drain, now, limit)
	return ds, next, err
}

func (r remote) Return(drain string, offset uint64) { _ = r.call("Return", nil, drain, offset) }

func (r remote) Ack(drain string, offset uint64, x buffer.Result) {
	_ = r.call("Ack", nil, drain, offset, x)
}

func (r remote) Release(drain string, offset uint64, x buffer.Retry) {
	_ = r.call("Release", nil, drain, offset, x)
}

func (r remote) Bury(drain string, offset uint64, why buffer.Reason, x buffer.Result) {
	_ = r.call("Bury", nil, drain, offset, why, x)
}

func (r remote) Wake(string) <-chan struct{} { return nil }

func (r remote) Watch(buffer.Ref) (<-chan struct{}, func()) { return nil, func() {} }

func (r remote) ID(ref buffer.Ref) (id string) {
	_ = r.call("ID", []any{&id}, ref)
	return id
}

func (r remote) Ref(id string) (ref buffer.Ref, err error) {
	err = r.call("Ref", []any{&ref}, id)
	return ref, err
}

func (r remote) Find(ref buffer.Ref, now time.Time) (s buffer.Status, err error) {
	err = r.call("Find", []any{&s}, ref, now)
	return s, err
}

func (r remote) Owner(ref buffer.Ref) (o buffer.Owner, err error) {
	err = r.call("Owner", []any{&o}, ref)
	return o, err
}

func (r remote) Cancel(_ context.Context, ref buffer.Ref, now time.Time) error {
	return r.call("Cancel", nil, ref, now)
}

func (r remote) FindKey(_ context.Context, stream, key string, limit int) (refs []buffer.Ref, err error) {
	err = r.call("FindKey", []any{&refs}, stream, key, limit)
	return refs, err
}

func (r remote) CancelKey(_ context.Context, stream, key string, now time.Time) (n int, err error) {
	err = r.call("CancelKey", []any{&n}, stream, key, now)
	return n, err
}

func (r remote) Expire(drain string, now, before time.Time, why buffer.Reason) (n int, oldest time.Time, err error) {
	err = r.call("Expire", []any{&n, &oldest}, drain, now, before, why)
	return n, oldest, err
}

func (r remote) ExpireOwn(drain string, now time.Time, why buffer.Reason) (n int, next time.Time, err error) {
	err = r.call("ExpireOwn", []any{&n, &next}, drain, now, why)
	return n, next, err
}

func (r remote) Dead(drain string, after uint64, limit int) (list []buffer.DeadLetter, more bool, err error) {
	err = r.call("Dead", []any{&list, &more}, drain, after, limit)
	return list, more, err
}

func (r remote) DeadMessage(drain string, offset uint64) (l buffer.DeadLetter, msg buffer.Message, err error) {
	err = r.call("DeadMessage", []any{&l, &msg}, drain, offset)
	return l, msg, err
}

func (r remote) Replay(_ context.Context, drain string, offsets []uint64, now time.Time) (n int, err error) {
	err = r.call("Replay", []any{&n}, drain, offsets, now)
	return n, err
}

func (r remote) DropDead(_ context.Context, drain string, offsets []uint64, now time.Time) (n int, err error) {
	err = r.call("DropDead", []any{&n}, drain, offsets, now)
	return n, err
}

func (r remote) Stats() (s buffer.Stats) {
	_ = r.call("Stats", []any{&s})
	return s
}

func (r remote) Audit(context.Context) (list []buffer.Account, err error) {
	err = r.call("Audit", []any{&list})
	return list, err
}
