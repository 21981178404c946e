// Package kafkaclient turns what a policy says of a Kafka cluster into options of
// franz-go: where the brokers are, TLS, SASL, time-outs and a quiet log. Sinks and
// sources add their own.
package kafkaclient
