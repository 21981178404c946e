// Package elasticsearch delivers messages as documents of Elasticsearch or
// OpenSearch, many in one _bulk request.
//
// What it promises: a document has the message's id, or the one that its caller gave to
// it in a bulk request, and is only ever created, so that a repeated delivery makes no
// second one; what the cluster says of one document
// is the outcome of its message alone. An answer that does not tell of every document
// is believed for none.
//
// What it does not promise: order. What is tried again alone arrives later.
package elasticsearch
