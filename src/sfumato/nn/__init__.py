"""Networks: tensors in, tensors out, nothing about losses or noise."""
