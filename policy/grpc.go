package policy

import "slices"

// grpcNames are the statuses of gRPC by number, in the canonical spelling (grpc/grpc, doc/statuscodes.md).
func grpcNames() [GRPCStatuses]string {
	return [...]string{
		"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
		"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
	}
}

// GRPCStatus returns the number of a gRPC status by its name, such as RESOURCE_EXHAUSTED, and whether there is one.
func GRPCStatus(name string) (number int, known bool) {
	names := grpcNames()
	number = slices.Index(names[:], name)
	return max(number, 0), number >= 0
}

// countedAnyway reports whether Envoy's load reports count a status as an error by themselves (envoy-measured.md §15).
func countedAnyway(status string) bool {
	return slices.Contains([]string{"UNAVAILABLE", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "DATA_LOSS"}, status)
}
