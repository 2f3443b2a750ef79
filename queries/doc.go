// Package queries asks Prometheus what running releases want to know besides what proxies report: one query, written for both arms, asked for both at the same moment.
//
// Promises: an answer counts only if it is one finite number per arm and not stale; whatever else comes, or does not come, is a problem in the operator's words and never
// a number. Each query of each release has one question under way at most and a deadline of its own; each server has workers of its own, so that a slow one delays
// nobody but itself, and Want and Take never wait for any.
//
// What staleness can be seen. An answer of Prometheus carries the time of the question, not that of the samples behind it. A query that is a plain selector is also asked
// for its timestamp(), which is the sample's own. Any other expression is asked with lookback_delta, which has the server itself leave older samples out; a server that
// does not know the parameter (Prometheus 2.53 does, 2.42 does not) looks back as far as it is configured to, 5 minutes by default.
// Prometheus marks series as gone when a scrape fails or its target vanishes, which shows as an empty answer within one scrape; what it cannot mark, samples that
// came with timestamps of their own, or from before it was killed, is what the two ways above are for. A window such as [5m] reaches back as far as it says. A value
// that something goes on exposing, such as a push gateway, is as new as its last scrape, and nothing here can tell.
package queries
