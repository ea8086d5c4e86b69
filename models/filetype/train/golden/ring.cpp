#include <cstddef>
#include <stdexcept>
#include <vector>

namespace pocket {

template <typename T>
class Ring {
public:
    explicit Ring(std::size_t size) : items_(size) {}

    void push(const T& item) {
        if (count_ == items_.size()) throw std::overflow_error("ring is full");
        items_[(first_ + count_++) % items_.size()] = item;
    }

    bool empty() const noexcept { return count_ == 0; }

private:
    std::vector<T> items_;
    std::size_t first_ = 0, count_ = 0;
};

}  // namespace pocket
