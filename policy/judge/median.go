package judge

// median returns the middle of values, the upper of two. It reorders them (Hoare's selection).
func median(values []float64) float64 {
	first, last, middle := 0, len(values)-1, len(values)/2
	for first < last {
		pivot := values[(first+last)/2]
		i, j := first, last
		for i <= j {
			for values[i] < pivot {
				i++
			}
			for values[j] > pivot {
				j--
			}
			if i <= j {
				values[i], values[j] = values[j], values[i]
				i++
				j--
			}
		}
		if middle <= j {
			last = j
		} else if middle >= i {
			first = i
		} else {
			break
		}
	}
	return values[middle]
}
