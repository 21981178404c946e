package drain

// Constraint names what keeps a drain from going faster.
type Constraint string

// The constraints. They are a closed set: each is a label value of
// forebay_drain_binding.
const (
	Paused      Constraint = "paused"       // by an operator
	Schedule    Constraint = "schedule"     // the rate of the present window
	Floor       Constraint = "floor"        // the schedule's least rate
	Deadline    Constraint = "deadline"     // messages near their deadline
	Override    Constraint = "override"     // an operator's rate
	SinkBudget  Constraint = "sink-budget"  // the rate that the sink can take
	Concurrency Constraint = "concurrency"  // all slots of the sink are in use
	LiveTraffic Constraint = "live-traffic" // live requests use the budget
	RetryAfter  Constraint = "retry-after"  // the sink asked for a pause
	RateHeader  Constraint = "rate-header"  // the sink asked for a lower rate
	Breaker     Constraint = "breaker"      // the sink fails
	SlowStart   Constraint = "slow-start"   // the sink has just recovered
	KafkaLag    Constraint = "kafka-lag"    // consumers behind the sink lag
	Ordering    Constraint = "ordering"     // too many keys wait for a failed message
	Empty       Constraint = "empty"        // nothing is due
	Unlimited   Constraint = "unlimited"    // nothing binds
)

// Constraints lists every Constraint.
func Constraints() []Constraint {
	return []Constraint{
		Paused, Schedule, Floor, Deadline, Override, SinkBudget, Concurrency, LiveTraffic,
		RetryAfter, RateHeader, Breaker, SlowStart, KafkaLag, Ordering, Empty, Unlimited,
	}
}
