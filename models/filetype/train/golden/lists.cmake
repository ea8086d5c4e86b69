cmake_minimum_required(VERSION 3.16)
project(pocket VERSION 0.3 LANGUAGES CXX)

set(CMAKE_CXX_STANDARD 17)
option(POCKET_TESTS "Build the tests" ON)

add_library(pocket src/ring.cpp src/util.cpp)
target_include_directories(pocket PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include)

if(POCKET_TESTS)
  enable_testing()
  add_executable(ring_test test/ring_test.cpp)
  target_link_libraries(ring_test PRIVATE pocket)
  add_test(NAME ring COMMAND ring_test)
endif()
