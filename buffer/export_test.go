package buffer

import "errors"

// Settled waits until every change so far is durable.
func (e *Engine) Settled() error {
	e.mu.Lock()
	g, err := e.join()
	e.mu.Unlock()
	if err != nil {
		return err
	}
	<-g.done
	return g.changes
}

// Halt ends the engine's goroutines as a crash would, and leaves the files as
// they are; Close then lets go of them.
func (e *Engine) Halt() {
	e.fail(errors.New("halted by a test"))
	e.done.Wait()
}
