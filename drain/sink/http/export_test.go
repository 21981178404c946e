package http

// AdviceOf is what an answer says of how much its sink takes.
var AdviceOf = advice
