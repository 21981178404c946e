// Package config reads how the process runs: listeners, storage, time-outs and
// logs. Layers are merged in this order, later ones winning: defaults, file,
// environment, flags.
//
// It is strict. A setting it does not know, a value without its unit and a
// setting that is not supported yet are mistakes, and all of them are
// reported at once with the place they come from. Nothing is ignored.
//
// What may enter, wait and leave is not here: that is policy, and reloads.
package config
