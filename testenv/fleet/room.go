package fleet

// room is the memory for messages that come in pieces: a fleet that connects gets thousands of large ones at a time. Who finds none is not read from until there
// is some, as a slow Envoy is not.
type room struct {
	most int
	left int
	free [][]byte // given back, to be used again
}

func newRoom(most int) room { return room{most: most, left: most} }

// fits reports whether there is room for a message.
func (r *room) fits(size int) bool { return size <= r.left || r.left == r.most }

// take returns an empty buffer for a message, or nil when there is no room. When nobody has any, even the largest message has room.
func (r *room) take(size int) []byte {
	if !r.fits(size) {
		return nil
	}
	r.left -= size
	for i, buffer := range r.free {
		if cap(buffer) >= size && cap(buffer) <= 2*size+smallMessage {
			r.free = append(r.free[:i], r.free[i+1:]...)
			return buffer[:0]
		}
	}
	return make([]byte, 0, size)
}

const (
	mostRoom     = 256 << 20
	mostMessage  = 64 << 20
	smallMessage = 4 << 10
	mostFree     = 8
)

// give takes a full buffer back.
func (r *room) give(buffer []byte) {
	r.left += len(buffer)
	if len(r.free) < mostFree {
		r.free = append(r.free, buffer)
	}
}
