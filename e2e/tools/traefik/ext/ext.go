// Package ext stands in for the module by which Traefik's own builds extend its configuration. Traefik requires it by
// a folder of its source tree that a published module does not carry; in the open build these structs are empty.
package ext

type (
	HTTP       struct{}
	Middleware struct{}
	Router     struct{}
	Service    struct{}
	Message    struct{}
)
