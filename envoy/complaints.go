package envoy

import (
	"errors"
	"log/slog"
)

// complaints are what a stream was found fault with, so that each fault is logged once. Its owner guards it.
type complaints map[string]struct{}

// complain logs that something of a proxy is not counted, or counted otherwise than it should be. Late reports are usual: one is under way whenever an order changes.
func (c *complaints) complain(log *slog.Logger, node string, fault error) {
	if _, known := (*c)[fault.Error()]; known {
		return
	}
	if *c == nil {
		*c = complaints{}
	}
	(*c)[fault.Error()] = struct{}{}
	if errors.Is(fault, errLate) {
		log.Debug("a report is not counted", "proxy", node, "reason", fault)
		return
	}
	log.Warn("a report is not counted as it came", "proxy", node, "err", fault)
}
